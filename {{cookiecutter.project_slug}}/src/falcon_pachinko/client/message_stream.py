"""The messages of a connection or of a room: a bounded queue of received ones, sends, requests."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ..close_codes import NORMAL_CLOSURE
from ..errors import ClientClosed, ClientError, RequestFailed
from ..messages import Message
from .answers import Answers
from .envelope import Envelope, MessageTypes
from .machine import Machine
from .sockets import AsyncioPlatform, Signal
from .status import State, Status

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Message)

REQUEST_SECONDS = 10.0
ONCE_SECONDS = 60.0
SEND_SECONDS = 10.0
# Messages of the framework that only the state machine needs.
INTERNAL = frozenset({"serverPong", "serverJoined", "serverAck"})


class MessageStream:
    """Received messages with ``async for``, and messages to the server.

    The iteration returns an object of the registered class for each message, or an :class:`Envelope` for one of another
    type. A ``ServerPosition`` is returned after a recovery only: with ``recovered=False`` messages are missing, and the
    state of the application may be out of date. The iteration ends after ``close()``, and raises :class:`ClientClosed`
    after a terminal close code. Messages that are not taken are kept up to ``Options.max_received_messages`` and
    ``Options.max_received_bytes``; then the client reads nothing, so that the server may close it as a slow reader, and requests fail.
    """

    def __init__(self, machine: Machine, platform: AsyncioPlatform, types: MessageTypes) -> None:
        self._machine = machine
        self._platform = platform
        self._types = types
        # With their sizes.
        self._received: deque[tuple[Envelope, int]] = deque()
        self._arrived = Signal()
        self._is_closed_here = False
        self._received_bytes = 0
        self._answers = Answers(platform, types)
        self._status_listeners: list[Callable[[Status], object]] = []
        machine.on_message_received = self._receive
        machine.on_request = self._answers.receive
        machine.on_status = self._report_status

    @property
    def status(self) -> Status:
        """The status of the connection, or of the room."""
        return self._machine.status

    @property
    def queued_messages(self) -> int:
        """The number of messages that wait for a connection, or for the reply to an earlier one."""
        return self._machine.queued_messages

    def on_status(self, listener: Callable[[Status], object]) -> None:
        """Call a function with each new status; its exception is logged."""
        self._status_listeners.append(listener)

    async def wait_open(self) -> None:
        """Wait until messages can be sent; bound it with ``asyncio.timeout``.

        Raises:
            ClientClosed: The server refuses the client for good, or it was closed.
        """
        while self.status.state is not State.OPEN:
            self._check_open()
            await self._arrived.wait()

    def __aiter__(self) -> MessageStream:
        return self

    async def __anext__(self) -> Any:
        envelope = await self._next()
        if envelope is None:
            raise StopAsyncIteration
        return envelope if envelope.message is None else envelope.message

    async def receive(self) -> Envelope:
        """Wait for the next message and return it with its position and time; bound it with ``asyncio.timeout``.

        Raises:
            ClientClosed: The client is closed, and all messages have been taken.
        """
        envelope = await self._next()
        if envelope is None:
            raise self._closed_error()
        return envelope

    async def send(
        self, message_type: str, payload: object = None, *, timeout_seconds: float = SEND_SECONDS
    ) -> None:
        """Send a message, or queue it for the next connection; wait for a place in a full queue.

        NOTE: a message that is written to a connection that is just being lost does not arrive. :meth:`request` tells.

        Args:
            message_type: The type.
            payload: A ``Payload``, a dict or another object of JSON; ``None`` is ``{}``.
            timeout_seconds: The longest wait for a place.

        Raises:
            ClientClosed: The client is closed.
            InvalidPayload: The payload does not match the handler's; only for a client of a resource class.
            TimeoutError: The queue is still full.
        """
        text = self._types.encode(message_type, payload)
        async with asyncio.timeout(timeout_seconds):
            while not self._machine.write(text):
                self._check_open()
                await self._platform.progress.wait()

    @overload
    async def request(
        self,
        message_type: str,
        payload: object = None,
        *,
        once: bool = False,
        timeout_seconds: float | None = None,
    ) -> Message | Envelope: ...
    @overload
    async def request(
        self,
        message_type: str,
        payload: object = None,
        *,
        reply: type[T],
        once: bool = False,
        timeout_seconds: float | None = None,
    ) -> T: ...
    async def request(
        self,
        message_type: str,
        payload: object = None,
        *,
        reply: type[Any] | None = None,
        once: bool = False,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Send a message, or queue it, and return its reply: what its handler returns, or ``ServerAck``.

        Args:
            message_type: The type.
            payload: A ``Payload``, a dict or another object of JSON; ``None`` is ``{}``.
            reply: The class of the expected reply.
            once: For a handler with ``once``: send it again after a lost connection, and after an error that rules
                out an effect. One such request is on its way at a time.
            timeout_seconds: The time until it fails, with the time in the queue: 10 s, or 60 s with ``once``.

        Raises:
            ClientClosed: The client is closed.
            ClientError: The reply is of another class than the expected one.
            InvalidPayload: The payload does not match the handler's; only for a client of a resource class.
            RequestFailed: The server's error, or no reply; the code tells whether the request may have taken effect.
        """
        self._check_open()
        reference = self._machine.next_reference()
        text = self._types.encode(message_type, payload, ref=reference)
        if self._machine.connection.full_streams:
            raise RequestFailed("No reply can be read: take the messages.", code="receiveQueueFull")
        result = asyncio.get_running_loop().create_future()

        def settle(error: RequestFailed | None, found: str, payload: dict[str, Any]) -> None:
            if result.done():
                return
            if error is None:
                result.set_result((found, payload))
            else:
                result.set_exception(error)

        seconds = timeout_seconds or (ONCE_SECONDS if once else REQUEST_SECONDS)
        requests = self._machine.requests
        started = requests.start(reference, text, seconds, settle, is_once=once)
        try:
            found, content = await result
        finally:
            requests.fail(started, "cancelled")
            self._platform.progress.notify()
        envelope = self._types.decode({"type": found, "payload": content})
        if reply is not None and not isinstance(envelope.message, reply):
            raise ClientError(f"the reply is {found}, not a valid {reply.__name__}")
        return envelope if envelope.message is None else envelope.message

    def answer(self, message_type: str, function: Callable[[Any], Any] | None) -> None:
        """Answer the server's requests of a type, which are ``self.request`` of a handler.

        Args:
            message_type: The type.
            function: A function or a coroutine function. It gets the message, an object of the registered class or else
                the payload, and its result is the answer; its exception is logged, and its text is sent. Above 100
                calls that run at once, requests are answered with an error. ``None`` removes it.
        """
        self._answers.set(message_type, function)

    # Steps of the methods above.

    def _close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        self._is_closed_here = self._is_closed_here or self.status.state is not State.CLOSED
        self._machine.close(code, reason)

    def _leave_with_client(self) -> None:
        """Mark a room as closed by its client, so that its iteration ends without an error."""
        self._is_closed_here = self._is_closed_here or self.status.state is not State.CLOSED

    def _check_open(self) -> None:
        if self.status.state is State.CLOSED:
            raise self._closed_error()

    def _closed_error(self) -> ClientClosed:
        return ClientClosed(self.status.code or NORMAL_CLOSURE, self.status.reason)

    async def _next(self) -> Envelope | None:
        while not self._received:
            if self.status.state is State.CLOSED:
                if self._is_closed_here:
                    return None
                raise self._closed_error()
            await self._arrived.wait()
        envelope, size = self._received.popleft()
        self._received_bytes -= size
        self._release_reading()
        return envelope

    def _receive(self, message: dict[str, Any]) -> None:
        # The answer to a probe has emptied the queue.
        self._platform.progress.notify()
        is_outcome = message["payload"].get("recovered") is not None
        if message["type"] in INTERNAL or (message["type"] == "serverPosition" and not is_outcome):
            return
        size = self._machine.connection.message_size
        self._received.append((self._types.decode(message), size))
        self._received_bytes += size
        self._arrived.notify()
        if self._is_full:
            self._pause_reading()

    @property
    def _is_full(self) -> bool:
        options = self._machine.options
        is_large = self._received_bytes >= options.max_received_bytes
        return is_large or len(self._received) >= options.max_received_messages

    def _pause_reading(self) -> None:
        connection = self._machine.connection
        connection.full_streams.add(self)
        self._platform.readable.clear()
        for machine in (connection, *connection.rooms.machines.values()):
            machine.fail_requests("receiveQueueFull")

    def _release_reading(self) -> None:
        connection = self._machine.connection
        may_read = not self._is_full or self.status.state is State.CLOSED
        if self in connection.full_streams and may_read:
            connection.full_streams.remove(self)
            if not connection.full_streams:
                connection.liveness.received_at = connection.liveness.instant()
                self._platform.readable.set()

    def _report_status(self, status: Status) -> None:
        for listener in list(self._status_listeners):
            try:
                listener(status)
            except Exception:
                logger.exception("a listener of the status failed")
        # The application may not take what a room that has ended has received.
        self._release_reading()
        self._arrived.notify()
        self._platform.progress.notify()
