"""The sockets, clocks and timers of a client: asyncio and the library websockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from ..close_codes import ABNORMAL_CLOSURE, NORMAL_CLOSURE, shorten_close_reason
from .handshake import CONFIGURATION_ERRORS, TEMPORARY_ERRORS, DirectConnect, end_of, tls_arguments
from .platform import SocketEvents

logger = logging.getLogger(__name__)

# How long the last messages and the closing handshake may take.
CLOSE_SECONDS = 2.0
# The bounds of the end of all tasks, which are 4 s together: in order, and after they were cancelled.
END_SECONDS, CANCEL_SECONDS = 3.0, 1.0


class Signal:
    """Wakes the tasks that wait for a change."""

    def __init__(self) -> None:
        self.waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Wake all tasks that wait now."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for the next notification."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            await waiter
        finally:
            self.waiters.discard(waiter)


class WebsocketsSocket:
    """A connection by the library websockets; its life is one task.

    Args:
        platform: The owner.
        url: The URL.
        headers: Headers of the handshake.
        events: The receiver of its events.
    """

    def __init__(
        self, platform: AsyncioPlatform, url: str, headers: Mapping[str, str], events: SocketEvents
    ) -> None:
        self.platform = platform
        self.url = url
        self.headers = headers
        self.events = events
        self.connection: ClientConnection | None = None
        self.pending: deque[tuple[str, Callable[[], object] | None]] = deque()
        self.buffered_bytes = 0
        self.has_text = asyncio.Event()
        self.closing: tuple[int, str] | None = None
        self.deadline: asyncio.TimerHandle | None = None
        platform.sockets.add(self)
        self.task = platform.spawn(self.run())

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent: neither side has begun to close the connection."""
        connection = self.connection
        return connection is not None and self.closing is None and connection.state is State.OPEN

    def send(self, text: str, unsent: Callable[[], object] | None = None) -> None:
        """Send a message after those that were sent before."""
        self.pending.append((text, unsent))
        self.buffered_bytes += len(text)
        self.has_text.set()

    def return_unsent(self) -> None:
        """Take the messages back that are not written, and report them, the last one first."""
        pending, self.pending = self.pending, deque()
        for text, unsent in reversed(pending):
            self.buffered_bytes -= len(text)
            if unsent is not None:
                unsent()

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Send what is pending, then close; an attempt is cancelled. The connection is aborted after 2 s."""
        if self.closing is None:
            self.closing = (code, shorten_close_reason(reason))
            self.has_text.set()
            if self.connection is None:
                self.task.cancel()
            else:
                self.deadline = self.platform.loop.call_later(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """End the connection at once: a peer that reads nothing blocks both the messages and the close frame."""
        if self.connection is not None:
            self.connection.transport.abort()

    async def run(self) -> None:
        """Connect, receive until the end, report it."""
        try:
            code, reason = await self.connect()
        finally:
            self.connection = None
            self.platform.sockets.discard(self)
            if self.deadline is not None:
                self.deadline.cancel()
        self.events.on_end(self, code, reason)
        self.platform.progress.notify()

    async def connect(self) -> tuple[int, str]:
        """Connect and receive until the end; return the close code and the reason."""
        code, reason = ABNORMAL_CLOSURE, ""
        try:
            async with DirectConnect(
                self.url,
                additional_headers=self.headers,
                ping_interval=None,
                open_timeout=None,
                close_timeout=CLOSE_SECONDS,
                max_size=self.platform.max_message_bytes,
                **tls_arguments(self.url, self.platform.ssl),
            ) as connection:
                self.connection = connection
                try:
                    async with asyncio.TaskGroup() as tasks:
                        writer = tasks.create_task(self.write(connection))
                        self.events.on_open(self)
                        code, reason = await self.read(connection)
                        writer.cancel()
                finally:
                    # The library closes the connection now, which has no bound of its own.
                    self.close()
        except (*TEMPORARY_ERRORS, *CONFIGURATION_ERRORS) as error:
            return end_of(error)
        except Exception:
            # A message that does not follow the protocol must not leave a connection without a reader.
            logger.exception("the client could not handle a message: it connects again")
        return code, reason

    async def read(self, connection: ClientConnection) -> tuple[int, str]:
        """Pass messages on until the end; return the close code and the reason."""
        try:
            while True:
                await self.platform.readable.wait()
                self.events.on_message(self, await connection.recv())
        except ConnectionClosed as closed:
            # A connection that this client fails, for a message that is too large for example, has only its own code.
            frame = closed.rcvd or closed.sent
            return (frame.code, frame.reason) if frame is not None else (ABNORMAL_CLOSURE, "")

    async def write(self, connection: ClientConnection) -> None:
        """Write what is pending, then close if that was asked for."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.has_text.wait()
                self.has_text.clear()
                while self.pending and connection.state is State.OPEN:
                    text, _ = self.pending.popleft()
                    await connection.send(text)
                    self.buffered_bytes -= len(text)
                    self.platform.progress.notify()
                if self.closing is not None:
                    await connection.close(*self.closing)
                    return


class AsyncioPlatform:
    """The environment of one client, in the running event loop.

    Args:
        max_message_bytes: The largest message of the server.
        ssl_context: The TLS context; ``None`` for the default one.

    Attributes:
        readable: Whether sockets are read.
        progress: Notified when messages were written, and after the end of a connection.
    """

    def __init__(self, max_message_bytes: int, ssl_context: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.max_message_bytes = max_message_bytes
        self.ssl = ssl_context
        self.readable = asyncio.Event()
        self.readable.set()
        self.progress = Signal()
        self.tasks: set[asyncio.Task[None]] = set()
        self.sockets: set[WebsocketsSocket] = set()

    def monotonic(self) -> float:
        """Return the time of the event loop in seconds."""
        return self.loop.time()

    def wall(self) -> float:
        """Return the time of day in seconds."""
        return time.time()

    def random(self) -> float:
        """Return a random number from 0 to below 1."""
        return random.random()

    def call_later(self, seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        """Call a function once after a time."""
        return self.loop.call_later(seconds, call)

    def call_soon(self, call: Callable[[], object]) -> object:
        """Call a function in the next iteration of the event loop."""
        return self.loop.call_soon(call)

    def connect(
        self, url: str, headers: Mapping[str, str], events: SocketEvents
    ) -> WebsocketsSocket:
        """Open a connection in the background."""
        return WebsocketsSocket(self, url, headers, events)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task, which ends with the platform at the latest."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def aclose(self) -> None:
        """Wait for the ends of all connections and tasks for 3 s, then abort and cancel what is left, within 1 s."""
        self.readable.set()
        tasks = self.tasks - {asyncio.current_task(self.loop)}
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=END_SECONDS)
        finally:
            # The cleanup of a cancelled task would wait for a peer that reads nothing.
            for socket in list(self.sockets):
                socket.abort()
            for task in tasks:
                task.cancel()
        left = {task for task in tasks if not task.done()}
        if left:
            await asyncio.wait(left, timeout=CANCEL_SECONDS)
