"""The task of a connection's ``on_connect`` and handlers: bounded in time, and left behind if it hangs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..support.loop_local import PerLoop
from ..support.tasks import call_later
from .connection import Connection
from .inbox import Message
from .log_context import Rooms, fields_of, log_end, type_of
from .shield import abandon

logger = logging.getLogger(__name__)

# The bounds of the interval between two checks of the handlers of an event loop.
MIN_CHECK_SECONDS = 0.01
MAX_CHECK_SECONDS = 0.5
# A bound is checked so many times, so that it is exceeded by a tenth at most.
CHECKS = 10
# After a disconnect a handler has this part of close_seconds; the rest is for its cancellation.
FINISH_SHARE = 0.7
# A handler that waits for the outbox ends by itself after close_seconds.
DRAIN_SHARE = 1.2


class HandlerTask:
    """Runs ``on_connect`` and the handlers of one connection in a task of their own.

    The sweep of the event loop cancels a method that exceeds its time. A method that ignores this is
    abandoned: :meth:`start` completes its future, and the task runs on alone.

    Attributes:
        busy_since: When the running method began, in the event loop's time; ``None`` between two.
        message: The message that the running handler is for; ``None`` for none.
        seconds: The time of a method; ``math.inf`` for no bound.
        cancelled_at: When the running method was cancelled for its time; ``None`` if it was not.
        abandoned: Whether the task has been abandoned.
        context: The context of all methods of the resource.

    Args:
        connection: The connection.
        name: The name of the resource class, for the log.
        registry: The connections of this process.
    """

    __slots__ = (
        "abandoned",
        "busy_since",
        "cancelled_at",
        "closed_at",
        "connection",
        "context",
        "ended",
        "message",
        "name",
        "registry",
        "seconds",
        "task",
    )

    def __init__(self, connection: Connection, name: str, registry: Rooms) -> None:
        self.connection = connection
        self.name = name
        self.registry = registry
        self.busy_since: float | None = None
        self.message: str | bytes | None = None
        self.seconds = math.inf
        self.cancelled_at: float | None = None
        self.closed_at: float | None = None
        self.abandoned = False
        self.context = contextvars.copy_context()
        self.ended: asyncio.Future[None]
        self.task: asyncio.Task[None]
        connection._life = self

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Start the coroutine, which calls :meth:`end` at its end; return a future of this or of its abandonment.

        The caller awaits the future, then calls :meth:`result`, or :meth:`stop` if it is cancelled.
        """
        loop = asyncio.get_running_loop()
        self.ended = loop.create_future()
        self.task = loop.create_task(coroutine, context=self.context)
        SWEEPS.of(loop).add(self)
        return self.ended

    def result(self) -> None:
        """Raise the exception of the coroutine, if it has one.

        Raises:
            BaseException: The exception, or a RuntimeError for one that would stop the event loop or the server.
        """
        if not self.task.cancelled():
            failure = self.task.exception()
            if failure is not None and not isinstance(failure, (Exception, KeyboardInterrupt)):
                raise RuntimeError(f"{self.name} raised {failure!r}") from failure
        self.task.result()

    def end(self) -> None:
        """Complete the future of :meth:`start`, and stop checking the task."""
        loop = self.ended.get_loop()
        SWEEPS.of(loop).tasks.discard(self)
        if not (self.ended.done() or loop.is_closed()):
            self.ended.set_result(None)

    async def stop(self) -> None:
        """Cancel the task, and abandon it if it does not end within ``close_seconds``.

        Raises:
            BaseException: The exception with which it has ended instead.
        """
        loop, limits = asyncio.get_running_loop(), self.connection.limits
        deadline = loop.time() + limits.close_seconds
        self.connection._inbox.interrupt()
        self.task.cancel()
        while not self.task.done() and (left := deadline - loop.time()) > 0:
            try:
                await asyncio.wait({self.task}, timeout=left)
            except asyncio.CancelledError:
                self.task.cancel()
        if not self.task.done():
            if not self.abandoned:
                self._abandon()
            return
        self.end()  # a task that is cancelled before it begins does not call it
        if not self.task.cancelled() and (failure := self.task.exception()) is not None:
            raise failure

    def reader(self) -> Callable[[], Awaitable[Message | None]]:
        """Return what waits for the next message; at the level ``debug`` it logs each of them."""
        inbox, name = self.connection._inbox, self.name
        if not logger.isEnabledFor(logging.DEBUG):  # PERF: checked once per connection
            return inbox.next

        async def next_message() -> Message | None:
            message = await inbox.next()
            if message is not None:
                fields = fields_of(self.connection)
                fields["message_type"] = type_of(message)
                logger.debug("%s: a message", name, extra=fields)
            return message

        return next_message

    def leave(self, accepted: bool) -> None:
        """Remove the connection from its rooms, and log its end."""
        fields = fields_of(self.connection)
        self.connection._life = None  # or both would be a cycle
        self.registry.remove(self.connection)
        log_end(self.connection, self.name, fields, accepted=accepted)

    async def _wait_disconnect_event(self) -> None:
        """Read until the server's disconnect event, whose code comes after the client's last messages."""
        inbox = self.connection._inbox
        inbox.start()
        while self.connection.close_code is None and await inbox.next() is not None:
            pass

    def take_back(self) -> None:
        """Take back the cancellation of a method that has exceeded its time.

        Raises:
            CancelledError: The task has been cancelled for another reason, too.
        """
        self.busy_since = self.cancelled_at = None
        if self.task.uncancel() > 0:
            raise asyncio.CancelledError

    def check(self, now: float) -> None:
        """Cancel a busy method at the end of its time; abandon one that ignores this."""
        limits, closed = self.connection.limits, self.connection.closed
        waiting = self.connection._outbox.waiting
        if self.cancelled_at is not None:
            if closed or now - self.cancelled_at >= limits.close_seconds:
                self._abandon()
        elif closed:
            if self.closed_at is None:
                self.closed_at = now
            share = DRAIN_SHARE if waiting else FINISH_SHARE
            if now - self.closed_at >= limits.close_seconds * share:
                # NOTE: not an error, because any client can cause it.
                logger.info("%s was cancelled: its connection has closed", self._method())
                self._cancel(now)
        elif self.busy_since is not None:
            # NOTE: waiting for its own client has a bound of its own.
            seconds = self.seconds + (limits.stall_seconds if waiting else 0.0)
            if now - self.busy_since >= seconds:
                logger.error(
                    "%s took more than %s s and was cancelled", self._method(), self.seconds
                )
                self._cancel(now)

    def _cancel(self, now: float) -> None:
        self.cancelled_at = now
        self.task.cancel()

    def _abandon(self) -> None:
        method = self._method()
        logger.error("%s ignored its cancellation; its connection ends without it", method)
        self.abandoned = True
        abandon(self.task, method)
        self.end()

    def _method(self) -> str:
        """Return the name of the method that the life cycle awaits."""
        coroutine: Any = self.task.get_coro()
        life_cycle = coroutine.cr_code.co_filename
        while (code := getattr(coroutine, "cr_code", None)) and code.co_filename == life_cycle:
            coroutine = coroutine.cr_await
        return getattr(coroutine, "__qualname__", self.name)


class HandlerSweep:
    """Checks the handlers of an event loop at intervals; a timer per message would cost more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.tasks: set[HandlerTask] = set()
        self.interval_seconds = math.inf
        self.timer: asyncio.TimerHandle | None = None

    def add(self, task: HandlerTask) -> None:
        """Check a task until it is discarded from :attr:`tasks`."""
        self.tasks.add(task)
        limits = task.connection.limits
        shortest = min(
            limits.on_connect_seconds, limits.close_seconds, limits.handler_seconds or math.inf
        )
        interval = max(MIN_CHECK_SECONDS, min(MAX_CHECK_SECONDS, shortest / CHECKS))
        if interval < self.interval_seconds:
            self.interval_seconds = interval
            self._schedule()

    def _schedule(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = call_later(self.loop, self.interval_seconds, self._check_all)

    def _check_all(self) -> None:
        if not self.tasks:
            self.timer, self.interval_seconds = None, math.inf
            return
        self._schedule()
        now = self.loop.time()
        for task in tuple(self.tasks):
            if task.busy_since is not None:
                try:
                    task.check(now)
                except Exception:
                    logger.exception("the check of a handler failed")
                    self.tasks.discard(task)


SWEEPS = PerLoop(HandlerSweep)
