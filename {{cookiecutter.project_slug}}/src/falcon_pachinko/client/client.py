"""The client for applications: ``async for``, requests, rooms."""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from ..close_codes import NORMAL_CLOSURE, check_close_code
from ..errors import ClientClosed, ConfigurationError
from ..messages import Message
from ..resource import WebSocketResource
from .envelope import MessageTypes
from .handshake import check_headers, is_header_value
from .machine import Machine
from .message_stream import MessageStream
from .options import DEFAULT_OPTIONS, Options
from .room_machine import join_room
from .sockets import AsyncioPlatform
from .status import State

logger = logging.getLogger(__name__)

CLIENT_ID_BYTES = 16
SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}

Token = str | Callable[[], Awaitable[str | None]]


class Room(MessageStream):
    """A room on the connection of a client, with its own messages, requests and status."""

    def leave(self) -> None:
        """Leave for good: queued messages are discarded, and the iteration ends."""
        self._close()


class Client(MessageStream):
    """A connection that is opened again after each loss; :func:`connect` makes one.

    Use it with ``async with``: it connects at the beginning and closes at the end. Messages that are sent before the
    connection is open are queued.
    """

    def __init__(self, machine: Machine, platform: AsyncioPlatform, types: MessageTypes) -> None:
        super().__init__(machine, platform, types)
        self._rooms: dict[str, Room] = {}

    async def __aenter__(self) -> Client:
        if self._machine.attempt:
            raise RuntimeError("a client is used once: make another one with connect()")
        self._machine.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def join(self, room: str) -> Room:
        """Join a room on a route for several rooms per connection.

        The room is joined again after each reconnection. One that the server refuses for good raises
        :class:`ClientClosed` where it is used; the connection and the other rooms are not affected. A room that is
        joined already is returned as it is.

        Raises:
            ClientClosed: The client is closed.
        """
        self._check_open()
        known = self._rooms.get(room)
        if known is not None and known.status.state is not State.CLOSED:
            return known
        machine = join_room(self._machine, room)
        joined = self._rooms[room] = Room(machine, self._platform, self._types)
        joined.on_status(lambda status: self._forget_closed(room, joined))
        machine.start()
        return joined

    def _forget_closed(self, room: str, joined: Room) -> None:
        if joined.status.state is State.CLOSED and self._rooms.get(room) is joined:
            del self._rooms[room]

    def reconnect(self) -> None:
        """Replace the connection with a new one; no effect while it is not open."""
        self._machine.reconnect()

    def wake(self) -> None:
        """Check the connection at once, or retry at once: for a program that learns of a change of the network."""
        self._machine.liveness.wake()

    async def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Send what the connection has buffered and close it for good, within 4 s; what is queued is discarded.

        Args:
            code: The close code.
            reason: The close reason, truncated to 123 bytes of UTF-8.

        Raises:
            ValueError: An endpoint may not send the code.
        """
        rooms = list(self._rooms.values())
        check_close_code(code)
        for room in rooms:
            room._leave_with_client()
        self._close(code, reason)
        await self._platform.aclose()


def connect(
    url: str,
    *,
    token: Token | None = None,
    headers: Mapping[str, str] | None = None,
    receives: Iterable[type[Message]] = (),
    resource: type[WebSocketResource] | None = None,
    options: Options = DEFAULT_OPTIONS,
    ssl_context: ssl.SSLContext | None = None,
) -> Client:
    """Return a client, which connects when it is entered with ``async with``.

    Args:
        url: A ``ws:``, ``wss:``, ``http:`` or ``https:`` URL.
        token: A bearer token; or a coroutine function that returns one, called for each attempt and before the session of
            the connection ends. Its exception is a failed attempt, which is logged and retried, and so is a call that
            takes longer than ``connect_timeout_seconds``; ``None`` closes with 4401.
        headers: Further headers of each handshake, such as ``Origin``.
        receives: Classes of the messages that the service sends: the iteration returns objects of them.
        resource: The resource class of the service, in place of ``receives``: its messages, and the payloads of
            its handlers, against which each message is checked before it is sent.
        options: Bounds and delays.
        ssl_context: The TLS context of ``wss:`` and ``https:``; by default one that verifies certificates.

    Raises:
        ConfigurationError: The URL is not a WebSocket URL, or a header or the token is not valid in a request.
        RuntimeError: No event loop is running.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.fragment:
        raise ConfigurationError(
            f"{url!r} is not a WebSocket URL: write it like ws://127.0.0.1:8000/ws/chat/general"
        )
    all_headers = dict(headers or {})
    if isinstance(token, str):
        all_headers["Authorization"] = f"Bearer {token}"
    check_headers(all_headers)
    platform = AsyncioPlatform(options.max_message_bytes, ssl_context)
    fetch_token = (
        fetcher_of(platform, token, options.connect_timeout_seconds) if callable(token) else None
    )
    machine = Machine(
        parts._replace(scheme=SCHEMES[parts.scheme]).geturl(),
        options,
        platform,
        client_id=secrets.token_hex(CLIENT_ID_BYTES),
        headers=all_headers,
        fetch_token=fetch_token,
    )
    return Client(machine, platform, MessageTypes(receives, resource))


def fetcher_of(
    platform: AsyncioPlatform,
    token: Callable[[], Awaitable[str | None]],
    timeout_seconds: float,
) -> Callable[[Callable[[str | Exception | None], None]], object]:
    """Return a function that calls an application's coroutine function for a token in a task, within a bound.

    Its exception, a result that is neither a text nor ``None``, and a call that takes too long are logged.
    """

    async def fetch(done: Callable[[Any], None]) -> None:
        result: Any
        try:
            async with asyncio.timeout(timeout_seconds):
                result = await token()
            if result is not None and not isinstance(result, str):
                raise TypeError(f"token() returned {type(result).__name__}, not str or None")
            if not is_header_value(result):
                raise ValueError("token() returned a text that a header cannot have")
        except Exception as error:
            logger.warning("the token could not be fetched", exc_info=error)
            result = error
        done(result)

    return lambda done: platform.spawn(fetch(done))


__all__ = ["Client", "ClientClosed", "Room", "connect"]
