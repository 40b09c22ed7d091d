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
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ..close_codes import ABNORMAL_CLOSURE, NORMAL_CLOSURE, shorten_close_reason
from .platform import SocketEvents

logger = logging.getLogger(__name__)

# Close code 3000 + the status, as Falcon maps it.
HTTP_STATUS_OFFSET = 3_000
# How long the closing handshake of either side may take.
CLOSE_SECONDS = 2.0
# A failed handshake is reported by any of these.
CONNECT_ERRORS = (OSError, EOFError, WebSocketException, ValueError)


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
        self.pending: deque[str] = deque()
        self.buffered_bytes = 0
        self.has_text = asyncio.Event()
        self.closing: tuple[int, str] | None = None
        self.task = platform.spawn(self.run())

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self.connection is not None and self.closing is None

    def send(self, text: str) -> None:
        """Send a message after those that were sent before."""
        self.pending.append(text)
        self.buffered_bytes += len(text)
        self.has_text.set()

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Send what is pending, then close; an attempt is cancelled."""
        if self.closing is None:
            self.closing = (code, shorten_close_reason(reason))
            self.has_text.set()
            if self.connection is None:
                self.task.cancel()

    async def run(self) -> None:
        """Connect, receive until the end, report it."""
        code, reason = ABNORMAL_CLOSURE, ""
        try:
            async with connect_websocket(
                self.url,
                additional_headers=self.headers,
                ping_interval=None,
                open_timeout=None,
                close_timeout=CLOSE_SECONDS,
                max_size=self.platform.max_message_bytes,
                ssl=self.platform.ssl if self.url.startswith("wss:") else None,
            ) as connection:
                self.connection = connection
                async with asyncio.TaskGroup() as tasks:
                    writer = tasks.create_task(self.write(connection))
                    self.events.on_open(self)
                    code, reason = await self.read(connection)
                    writer.cancel()
        except InvalidStatus as refused:
            code = HTTP_STATUS_OFFSET + refused.response.status_code
        except CONNECT_ERRORS as error:
            reason = shorten_close_reason(str(error))
        except Exception:
            # A message that does not follow the protocol must not leave a connection without a reader.
            logger.exception("the client could not handle a message: it connects again")
        self.connection = None
        self.events.on_end(self, code, reason)
        self.platform.progress.notify()

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
                while self.pending:
                    await connection.send(self.pending[0])
                    self.buffered_bytes -= len(self.pending.popleft())
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
        """Wait for the ends of all connections, within a bound, then cancel what is left."""
        self.readable.set()
        tasks = self.tasks - {asyncio.current_task(self.loop)}
        if tasks:
            await asyncio.wait(tasks, timeout=2 * CLOSE_SECONDS)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
