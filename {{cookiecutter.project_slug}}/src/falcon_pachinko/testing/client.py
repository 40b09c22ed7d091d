"""A WebSocket client for tests, which knows the envelope and bounds every wait."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from typing import Any, NamedTuple, TypeVar, overload

from websockets.asyncio.client import ClientConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from ..messages import Message
from .contract import Declaration, Undeclared
from .envelope import decode, decode_as, encode, preview, type_name_of, type_of
from .errors import Closed, raise_or_note
from .rooms import InRooms, RoomReader

T = TypeVar("T")

WAIT_SECONDS = 5.0
REPORTED_MESSAGES = 5


class Wait(NamedTuple):
    """A bounded wait for a message or a close.

    Attributes:
        target: The awaited event, for error texts.
        seconds: The bound.
        deadline: The end of the bound, in the time of the event loop.
        read_before: The number of messages read before the wait.
    """

    target: str
    seconds: float
    deadline: float
    read_before: int


class Client(InRooms):
    """A client's connection to an application, over a socket or in-process.

    Messages sent before a close are read before the close is reported. A wait that exceeds its
    bound raises a ``TimeoutError`` with the messages received meanwhile.

    Attributes:
        socket: The connection of the library ``websockets``.
        timeout_seconds: The default bound of every wait.
        declaration: The messages that the application may send; ``None`` for no check.
        reported_close_code: The close code, after a method has raised or returned it.
    """

    def __init__(
        self,
        socket: ClientConnection,
        timeout_seconds: float = WAIT_SECONDS,
        declaration: Declaration | None = None,
        reader: RoomReader | None = None,
    ) -> None:
        self.socket = socket
        self.reader = reader or RoomReader(socket)
        self.timeout_seconds = timeout_seconds
        self.declaration = declaration
        self.paused = False
        self.reported_close_code: int | None = None
        self.read_count = 0
        self.recent_messages: deque[str | bytes] = deque(maxlen=REPORTED_MESSAGES)

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the application selected."""
        return self.socket.subprotocol

    @property
    def headers(self) -> Headers:
        """The response headers of the handshake, case-insensitive."""
        assert self.socket.response is not None, "a client exists only after the handshake"
        return self.socket.response.headers

    async def send(self, message: object, payload: object = None) -> None:
        """Send a message.

        Args:
            message: The name of a message type; or a ``Message`` or another object, sent as it is.
            payload: The payload of a named type, such as a dict or a ``msgspec.Struct``; ``None``
                omits it.

        Raises:
            Closed: The connection is closed.
            TimeoutError: The server did not read the message.
            TypeError: JSON cannot represent it, or a struct has no message type.
        """
        await self.send_raw(self.with_room(encode(message, payload)))

    async def send_raw(self, data: str | bytes) -> None:
        """Send text or bytes unchanged; otherwise like :meth:`send`."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self.socket.send(data)
        except TimeoutError:
            raise TimeoutError(
                f"the server did not read {preview(data)} within {self.timeout_seconds} s"
            ) from None
        except ConnectionClosed as closed:
            context = f"before {preview(data)} was sent; {self.summary()}"
            raise self.closed_error(closed, context) from None

    @overload
    async def receive(self, *, timeout_seconds: float | None = None) -> Any: ...
    @overload
    async def receive(self, expected: type[T], *, timeout_seconds: float | None = None) -> T: ...
    async def receive(
        self, expected: type[Any] | None = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """Wait for the next message and decode it.

        Args:
            expected: A ``Message`` class, or another type for the whole message. Without it the
                decoded JSON is returned.
            timeout_seconds: The bound of this wait.

        Raises:
            TimeoutError: No message arrived.
            Closed: The connection is closed, and all messages have been read.
            AssertionError: The message is not valid JSON, or does not match.
        """
        data = await self.next_message(self.start_wait("a message", timeout_seconds))
        return decode(data) if expected is None else decode_as(data, expected)

    async def receive_raw(self, *, timeout_seconds: float | None = None) -> str | bytes:
        """Wait for the next message and return it unchanged; otherwise like :meth:`receive`."""
        return await self.next_message(self.start_wait("a message", timeout_seconds))

    async def receive_until(
        self, expected: str | type[Message], *, timeout_seconds: float | None = None
    ) -> list[Any]:
        """Wait for a message of a type; return all messages up to and including it.

        Args:
            expected: The name of the type, or a ``Message`` class, which decodes the last message.
            timeout_seconds: The bound of the whole wait.

        Raises:
            TimeoutError: The message did not arrive.
            Closed: The connection was closed before.
            AssertionError: A message is not valid JSON, or the last one does not match.
            TypeError: The class has no message type.
        """
        name = type_name_of(expected)
        wait = self.start_wait(f"a message of type {name!r}", timeout_seconds)
        messages: list[Any] = []
        while True:
            data = await self.next_message(wait)
            messages.append(decode(data))
            if type_of(messages[-1]) == name:
                if not isinstance(expected, str):
                    messages[-1] = decode_as(data, expected)
                return messages

    async def wait_closed(self, *, timeout_seconds: float | None = None) -> tuple[int, str]:
        """Wait until the connection is closed, discarding messages; return the code and the reason.

        They are the server's, which repeats the code of a client that closes first. Without a close
        frame the code is 1006.

        Raises:
            TimeoutError: The connection is still open.
        """
        wait = self.start_wait("a close", timeout_seconds)
        while True:
            try:
                await self.next_message(wait)
            except Closed as closed:
                return closed.code, closed.reason

    def pause_reading(self) -> None:
        """Act as a slow client: stop reading until :meth:`resume_reading`.

        In-process the application's next ``send`` waits. Over a socket it waits when the kernel's
        buffers are full: megabytes, unless ``connect`` was called with ``small_buffer``.
        """
        self.paused = True
        self.socket.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, beginning with the messages sent meanwhile."""
        self.paused = False
        self.socket.transport.resume_reading()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with a closing handshake, for which the server has one second."""
        await self.socket.close(code, reason)

    def vanish(self) -> None:
        """Drop the connection without a close frame, as after a network failure."""
        self.socket.transport.abort()

    async def aclose(self) -> None:
        """Close the connection; abort it while reading is paused."""
        if self.paused:
            self.vanish()
        await self.socket.close()

    async def check_unread(self, failure: BaseException | None) -> None:
        """Check the unread messages and the close code of a closed connection.

        Args:
            failure: The error that the test fails with; a problem becomes a note of it.

        Raises:
            Undeclared: A message or the code is not declared.
        """
        if self.declaration is None:
            return
        try:
            for data in itertools.chain.from_iterable(self.reader.unread.values()):
                self.declaration.check_message(data)
            with contextlib.suppress(ConnectionClosed):
                async with asyncio.timeout(self.timeout_seconds):
                    while True:
                        self.declaration.check_message(await self.socket.recv())
            close = self.socket.protocol.close_rcvd
            if close is not None and self.socket.protocol.close_rcvd_then_sent:
                self.declaration.check_close(close.code)
        except Undeclared as problem:
            raise_or_note(problem, failure)

    # Steps of the methods above.

    def in_room(self, room: str | None) -> Client:
        """Return a client of the same connection for another room."""
        client = Client(self.socket, self.timeout_seconds, self.declaration, self.reader)
        client.room = room
        return client

    def start_wait(self, target: str, timeout_seconds: float | None) -> Wait:
        """Start a bounded wait."""
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline = asyncio.get_running_loop().time() + seconds
        return Wait(target, seconds, deadline, self.read_count)

    async def next_message(self, wait: Wait) -> str | bytes:
        """Wait for the next message of any kind."""
        if self.paused:
            raise RuntimeError(
                f"{wait.target} cannot arrive while reading is paused: call resume_reading() first"
            )
        try:
            async with asyncio.timeout_at(wait.deadline):
                data = await self.reader.next(self.room)
        except TimeoutError:
            raise TimeoutError(
                f"{wait.target} did not arrive within {wait.seconds} s; {self.summary(wait)}"
            ) from None
        except ConnectionClosed as closed:
            context = f"during the wait for {wait.target}; {self.summary(wait)}"
            raise self.closed_error(closed, context) from None
        self.read_count += 1
        self.recent_messages.append(data)
        if self.declaration is not None:
            self.declaration.check_message(data)
        return data

    def closed_error(self, closed: ConnectionClosed, context: str) -> Closed:
        """Return the error of a closed connection, and record that it is reported."""
        error = Closed(closed, context)
        self.reported_close_code = error.code
        return error

    def summary(self, wait: Wait | None = None) -> str:
        """Return a list of the messages read during a wait, or else before it."""
        during = 0 if wait is None else self.read_count - wait.read_before
        count, when = (during, "meanwhile") if during else (self.read_count, "before")
        if not count:
            return "no messages received"
        last = [preview(data) for data in self.recent_messages][-count:]
        only = "" if count == len(last) else f", the last {len(last)} of them"
        noun = "1 message" if count == 1 else f"{count} messages"
        return f"received {when}: {noun}{only}: {', '.join(last)}"
