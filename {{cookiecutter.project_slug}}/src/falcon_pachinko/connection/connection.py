"""A WebSocket connection: ordered delivery, the accept transaction, the closing handshake."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import falcon.asgi
from falcon import WebSocketDisconnected

from .. import close_codes
from ..errors import OutboxFull
from ..history import Position
from ..publication import Publication
from ..route_config import RouteConfig
from .carrier import Carrier
from .events import publication_of
from .extension import PushExtension
from .inbox import ASGIInbox, Event, Inbox, Receive
from .log_context import log_info
from .outbox import ASGIOutbox, Outbox, Send
from .state import CLOSED, CLOSING, CONNECTING, OPEN, State
from .transaction import AcceptTransaction


class Connection(Carrier):
    """One WebSocket client, from the handshake to the end: the ``ws`` of handlers.

    Its messages leave in the order in which they were sent. While the server does not accept more, they are
    pending in an outbox; a client that exceeds the bounds of :class:`..limits.Limits` is closed with 4008.

    Attributes:
        id: A unique identifier.
        state: The state.
        close_code: The code of our close, otherwise the server's; ``None`` before.
        opened_at: The time of the handshake, on the process's monotonic clock.

    Args:
        receive: The server's ``receive``.
        send: The server's ``send``.
        push: The server's extension, if it offers one (see :mod:`falcon_pachinko.uvicorn`).
        node_id: The prefix of the id.
    """

    __slots__ = (
        "_accept_options",
        "_before_close",
        "_inbox",
        "_on_resync",
        "_outbox",
        "_previous_ids",
        "_since",
        "_transaction",
        "_websocket",
        "close_code",
        "id",
        "opened_at",
        "state",
    )

    def __init__(
        self, receive: Receive, send: Send, push: PushExtension | None = None, node_id: str = ""
    ) -> None:
        super().__init__()
        self.id = node_id + secrets.token_hex(16)
        self.state = CONNECTING
        self.close_code: int | None = None
        self.opened_at = time.monotonic()
        self._before_close: Callable[[int], Awaitable[None]] | None = None
        self._on_resync: Callable[[Connection, str], Awaitable[None]] | None = None
        self._previous_ids: frozenset[str] = frozenset()  # of a reconnecting client
        self._since: tuple[Position, ...] = ()  # a reconnecting client's last position in each room
        self._accept_options: tuple[str | None, tuple[tuple[str, str], ...]] = (None, ())
        self._websocket: falcon.asgi.WebSocket | None = None  # its accept() keeps Falcon in step
        self._transaction: AcceptTransaction | None = AcceptTransaction(self._config.limits)
        self._inbox: Inbox
        self._outbox: Outbox
        if push is None:
            self._inbox = ASGIInbox(receive, self._on_disconnect)
            self._outbox = ASGIOutbox(send, self._on_send_failure)
        else:
            # NOTE: in this order, because make_inbox() reports an earlier disconnect at once.
            self._outbox = push.make_outbox(send, self._on_send_failure)
            self._inbox = push.make_inbox(self._on_disconnect)

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r} {self.state.name.lower()}>"

    @property
    def closed(self) -> bool:
        """Whether either side has closed the connection."""
        return self.state is CLOSING or self.state is CLOSED

    # PERF: these three return the coroutine of _send() instead of awaiting it in another one.
    def send_media(self, media: object) -> Coroutine[Any, Any, None]:
        """Send a :class:`~falcon_pachinko.messages.Message` or any object that JSON can represent.

        If messages are pending, it waits until all of them have been sent, so that a handler cannot outrun
        its own client. In ``on_connect`` the message is buffered until the connection is accepted.

        Raises:
            falcon.WebSocketDisconnected: The connection is closed.
            OutboxFull: ``on_connect`` has sent more than the limits allow.
            TypeError: JSON cannot represent the message.
        """
        return self._send(Publication(media))

    def send_text(self, payload: str) -> Coroutine[Any, Any, None]:
        """Send a text as it is; otherwise like :meth:`send_media`."""
        return self._send(Publication.of_text(payload))

    def send_data(self, payload: bytes) -> Coroutine[Any, Any, None]:
        """Send a binary message; otherwise like :meth:`send_media`."""
        return self._send(Publication.of_bytes(bytes(payload)))

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Set the options of the accepting response, in ``on_connect``; returning ``True`` sends it.

        Args:
            subprotocol: One of the subprotocols that the client offered.
            headers: Names and values in ASCII.

        Raises:
            RuntimeError: The handshake is complete.
        """
        if self._is_accepted or self.state is not CONNECTING:
            raise RuntimeError("the handshake is complete: call accept() in on_connect")
        self._accept_options = (subprotocol, tuple(headers))

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close the connection in order: pending messages are sent first, within ``close_seconds``.

        Before the handshake is accepted, it is refused (HTTP 403). A second close has no effect.

        Args:
            code: The close code, 1000 by default.
            reason: A sentence for the user, truncated to 123 bytes of UTF-8.

        Raises:
            ValueError: An endpoint may not send the code.
        """
        code = close_codes.check_close_code(close_codes.NORMAL_CLOSURE if code is None else code)
        await self._close_with(close_codes.close_event(code, reason or ""))

    def abort(self, code: int, reason: str) -> None:
        """Close the connection at once and drop pending messages, for a client that does not read."""
        if self.closed:
            return
        log_info(self, "%r is closed with %d: %s", self, code, reason)
        self._start_closing(close_codes.close_event(code, reason), discard=True)

    async def aclose(self) -> None:
        """Release the server after pending messages have been sent, within ``close_seconds``. Idempotent."""
        if self.state is CLOSED:
            return
        self._inbox.close()
        try:
            await self._outbox.wait_drained(self.limits.close_seconds)
        finally:
            self._set_state(CLOSED, self.close_code)
            self._outbox.abort()
            self._websocket = None

    @property
    def _carrier(self) -> Connection:
        """The connection to the client: this one, unless it is a channel."""
        return self

    @property
    def _is_accepted(self) -> bool:
        """Whether the handshake has been accepted, by a middleware or by us."""
        return self._websocket is not None and not self._websocket.unaccepted

    def _configure(self, config: RouteConfig) -> None:
        """Apply the configuration of the route."""
        self._config = config
        self._inbox.limits = self._outbox.limits = config.limits
        if self._transaction is not None:
            self._transaction.limits = config.limits

    async def _send(self, publication: Publication) -> None:
        """Send a message of this connection's own handlers: see :meth:`send_media`."""
        if self._announcements:
            self._announcements.catch_up(self)
        if self.state is OPEN:
            self._outbox.write(publication)
            if self._outbox.waiting:
                # NOTE: messages of rooms are queued as well, so a client that takes one message after
                #   the other may never drain it; only one that took nothing is closed.
                taken, seconds = self._outbox.backlog.taken, self.limits.stall_seconds
                in_time = await self._outbox.wait_drained(seconds)
                if not in_time and self._outbox.backlog.taken == taken:
                    self.abort(close_codes.SLOW_READER, f"read nothing for {seconds} s")
        elif self._transaction is not None:
            self._transaction.add_own(publication)
        else:
            raise WebSocketDisconnected(self.close_code)

    def _deliver(self, publication: Publication) -> None:
        """Send a message of a room or of another connection: never waits, never raises."""
        self._catch_up()
        self._receive(publication)

    def _receive(self, publication: Publication) -> None:
        """Send a message of a room at its place in the room: never waits, never raises."""
        if self.state is OPEN:
            self._outbox.write(publication)
        elif self._transaction is not None:
            try:
                self._transaction.add_received(publication)
            except OutboxFull as error:
                self._on_send_failure(error)

    async def _open(self) -> AcceptTransaction | None:
        """Accept the handshake and send the client's own messages of the transaction.

        Returns:
            The transaction; ``None`` if the connection was closed meanwhile.
        """
        await self._accept_handshake()
        transaction = self._transaction
        if transaction is not None:
            self._set_state(OPEN, None)
            for publication in transaction.own:
                self._outbox.write(publication)
        return transaction

    async def _forward(self, event: Event) -> None:
        """Send an event of Falcon, which gets this as ``send``; a second close has no effect."""
        if event["type"] == "websocket.close":
            if self._before_close is not None:
                await self._before_close(event["code"])
            await self._close_with(event)
            return
        self._catch_up()
        if self.closed:
            raise WebSocketDisconnected(self.close_code)
        self._outbox.write(publication_of(event))
        await self._outbox.wait_drained()

    def _set_state(self, state: State, close_code: int | None) -> None:
        """Enter a later state; from CLOSING on, nothing is sent except a close event."""
        self._stop_expiry()
        self.state = state
        self.close_code = close_code
        self._transaction = None
        if state is OPEN:
            self._start_expiry()
        else:
            self._outbox.close()
            self._end_dependents(close_code)

    async def _accept_handshake(self) -> None:
        """Accept the handshake, unless a middleware has done so."""
        if not self._is_accepted:
            assert self._websocket is not None
            await self._websocket.accept(*self._accept_options)

    async def _close_with(self, event: Event) -> None:
        """Send a close event after pending messages, once, and wait for them."""
        self._catch_up()
        if not self.closed:
            self._start_closing(event)
            await self._outbox.wait_drained(self.limits.close_seconds)

    def _start_closing(self, event: Event, *, discard: bool = False) -> None:
        """Send a close event after pending messages, or instead of them; never waits."""
        self._set_state(CLOSING, event["code"])
        if discard:
            self._outbox.discard()
        self._outbox.write(Publication.of_event(event))
        self._interrupt()

    def _interrupt(self) -> None:
        """Wake the reading task; a handler that waits for the client is released after ``close_seconds``."""
        self._inbox.interrupt()
        if self._outbox.waiting:
            asyncio.get_running_loop().call_later(self.limits.close_seconds, self._outbox.abort)

    def _on_send_failure(self, error: Exception) -> None:
        """End a connection whose client has not received a message."""
        if isinstance(error, OutboxFull):
            self.abort(close_codes.SLOW_READER, "reads too slowly")
        elif not self.closed:
            log_info(self, "%r is lost: %r", self, error)
            self._set_state(CLOSING, self.close_code)
            self._outbox.discard()
            # NOTE: uvicorn reports no disconnect while a message is pending for a client that answers no ping.
            asyncio.get_running_loop().call_later(self.limits.close_seconds, self._inbox.interrupt)

    def _on_disconnect(self, event: Event) -> None:
        """Store the close code of a disconnect; the code of our own close takes precedence."""
        code = self.close_code or event.get("code") or close_codes.NO_STATUS_RECEIVED
        self._set_state(CLOSING if self.state is not CLOSED else CLOSED, code)
