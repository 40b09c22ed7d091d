"""A WebSocket client that speaks the envelope and never waits without a bound."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, NamedTuple, TypeVar, overload

from websockets.asyncio.client import ClientConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from ..messages import Message
from .contract import Declaration, Undeclared
from .envelope import decode, decode_as, encode, shown, type_named, type_of
from .errors import Closed, fail

T = TypeVar("T")

WAIT_SECONDS = 5.0
SHOWN_MESSAGES = 5


class Wait(NamedTuple):
    """One wait for something that the application may send.

    Attributes:
        what: What is awaited, for people.
        seconds: How long it may take.
        end: When that is over, by the clock of the event loop.
        begun: How many messages had been read when it began.
    """

    what: str
    seconds: float
    end: float
    begun: int


class Client:
    """One connection to an application, seen from outside; over a socket or inside the process.

    What the application has sent before it closed is read before the close is seen. Each wait ends at
    its bound with a ``TimeoutError`` that says what was awaited and what had come instead.

    Attributes:
        socket: The connection of the library ``websockets``.
        timeout_seconds: The bound of every wait that is not given one of its own.
        declaration: What the application may send; ``None`` where nobody looks.
        close_seen: The code of the close, once a method has told of it.
    """

    def __init__(
        self,
        socket: ClientConnection,
        timeout_seconds: float = WAIT_SECONDS,
        declaration: Declaration | None = None,
    ) -> None:
        self.socket = socket
        self.timeout_seconds = timeout_seconds
        self.declaration = declaration
        self.paused = False
        self.close_seen: int | None = None
        self.read_count = 0
        self.last_read: deque[str | bytes] = deque(maxlen=SHOWN_MESSAGES)

    @property
    def subprotocol(self) -> str | None:
        """The one that the application chose of those that were offered."""
        return self.socket.subprotocol

    @property
    def headers(self) -> Headers:
        """The headers with which the handshake was accepted; names in any case."""
        assert self.socket.response is not None, "there is no client before the answer"
        return self.socket.response.headers

    async def send(self, message: object, payload: object = None) -> None:
        """Send a message.

        Args:
            message: The name of its type; or a ``Message`` or anything else that JSON can hold, as it is.
            payload: The payload of a named type, such as a dict or a ``msgspec.Struct``; without it the
                envelope has none.

        Raises:
            Closed: The connection is closed.
            TimeoutError: The server took nothing.
            TypeError: JSON cannot hold it, or it is a struct that names no type.
        """
        await self.send_raw(encode(message, payload))

    async def send_raw(self, data: str | bytes) -> None:
        """Send a text or binary message as it is; otherwise like :meth:`send`."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self.socket.send(data)
        except TimeoutError:
            raise TimeoutError(
                f"the server did not take {shown(data)} within {self.timeout_seconds} s"
            ) from None
        except ConnectionClosed as closed:
            raise self.closed(closed, f"before {shown(data)} was sent; {self.told()}") from None

    @overload
    async def receive(self, *, timeout_seconds: float | None = None) -> Any: ...
    @overload
    async def receive(self, expected: type[T], *, timeout_seconds: float | None = None) -> T: ...
    async def receive(
        self, expected: type[Any] | None = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """Wait for the next message and decode it.

        Args:
            expected: What it has to be: a ``Message``, or another type that the whole message has to fit.
                Without it the message comes as JSON says, usually as a dict.
            timeout_seconds: The bound of this wait.

        Raises:
            TimeoutError: Nothing came.
            Closed: The connection is closed, and everything has been read.
            AssertionError: It is no JSON or does not fit.
        """
        data = await self.take(self.begin("a message", timeout_seconds))
        return decode(data) if expected is None else decode_as(data, expected)

    async def receive_raw(self, *, timeout_seconds: float | None = None) -> str | bytes:
        """Wait for the next message and return it as it is; otherwise like :meth:`receive`."""
        return await self.take(self.begin("a message", timeout_seconds))

    async def receive_until(
        self, expected: str | type[Message], *, timeout_seconds: float | None = None
    ) -> list[Any]:
        """Wait for a message of this type; return all messages up to it, it being the last.

        Args:
            expected: The name of the type, or its ``Message``: then the last one is an instance of that.
            timeout_seconds: The bound of the whole wait, whatever comes meanwhile.

        Raises:
            TimeoutError: It did not come.
            Closed: The connection was closed before it came.
            AssertionError: Something came that is no JSON, or the payload does not fit.
            TypeError: The class names no type.
        """
        name = type_named(expected)
        wait = self.begin(f"a message of type {name!r}", timeout_seconds)
        messages: list[Any] = []
        while True:
            data = await self.take(wait)
            messages.append(decode(data))
            if type_of(messages[-1]) == name:
                if not isinstance(expected, str):
                    messages[-1] = decode_as(data, expected)
                return messages

    async def wait_closed(self, *, timeout_seconds: float | None = None) -> tuple[int, str]:
        """Wait until the connection is closed, dropping what comes before; return the code and the reason.

        They are the server's; where this client closed first, the server repeats its code. A server that
        went without a word gives 1006.

        Raises:
            TimeoutError: It is still open.
        """
        wait = self.begin("a close", timeout_seconds)
        while True:
            try:
                await self.take(wait)
            except Closed as closed:
                return closed.code, closed.reason

    def pause_reading(self) -> None:
        """Be a slow client: read nothing more until :meth:`resume_reading`.

        In process the application's next ``send`` then waits. Over a socket it waits once the kernel's
        buffers are full, which are megabytes unless ``small_buffer`` was given to ``connect``.
        """
        self.paused = True
        self.socket.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, first what has been sent meanwhile."""
        self.paused = False
        self.socket.transport.resume_reading()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order; a server that does not answer is left after a second."""
        await self.socket.close(code, reason)

    def vanish(self) -> None:
        """Go away without a word, as a machine does that loses its power."""
        self.socket.transport.abort()

    async def leave(self) -> None:
        """What ends every connection that a test has not ended itself."""
        if self.paused:
            self.vanish()
        await self.socket.close()

    async def check_rest(self, failure: BaseException | None) -> None:
        """See whether what nobody has read is declared too, once the connection is closed.

        Args:
            failure: What the test fails with anyhow.

        Raises:
            Undeclared: Something is not.
        """
        if self.declaration is None:
            return
        try:
            with contextlib.suppress(ConnectionClosed):
                async with asyncio.timeout(self.timeout_seconds):
                    while True:
                        self.declaration.check_message(await self.socket.recv())
            close = self.socket.protocol.close_rcvd
            if close is not None and self.socket.protocol.close_rcvd_then_sent:
                self.declaration.check_close(close.code)
        except Undeclared as problem:
            fail(problem, failure)

    # The steps of all these.

    def begin(self, what: str, timeout_seconds: float | None) -> Wait:
        """Begin to wait."""
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        end = asyncio.get_running_loop().time() + seconds
        return Wait(what, seconds, end, self.read_count)

    async def take(self, wait: Wait) -> str | bytes:
        """Wait for the next message, whatever it is."""
        if self.paused:
            raise RuntimeError(
                f"{wait.what} cannot come: this client does not read; call resume_reading() first"
            )
        try:
            async with asyncio.timeout_at(wait.end):
                data = await self.socket.recv()
        except TimeoutError:
            raise TimeoutError(
                f"{wait.what} did not come within {wait.seconds} s; {self.told(wait.begun)}"
            ) from None
        except ConnectionClosed as closed:
            story = f"while {wait.what} was awaited; {self.told(wait.begun)}"
            raise self.closed(closed, story) from None
        self.read_count += 1
        self.last_read.append(data)
        if self.declaration is not None:
            self.declaration.check_message(data)
        return data

    def closed(self, closed: ConnectionClosed, story: str) -> Closed:
        """The exception that says so; remembers that somebody was told."""
        error = Closed(closed, story)
        self.close_seen = error.code
        return error

    def told(self, begun: int | None = None) -> str:
        """What has been read: meanwhile, or else before."""
        meanwhile = 0 if begun is None else self.read_count - begun
        count, when = (meanwhile, "meanwhile") if meanwhile else (self.read_count, "before")
        if not count:
            return "nothing has come at all"
        last = [shown(data) for data in self.last_read][-count:]
        only = "" if count == len(last) else f", the last {len(last)} of them"
        noun = "1 message" if count == 1 else f"{count} messages"
        return f"{when} came {noun}{only}: {', '.join(last)}"
