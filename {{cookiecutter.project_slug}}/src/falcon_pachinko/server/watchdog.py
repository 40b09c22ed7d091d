"""Names the handler that blocks the event loop: all other clients of the process wait for it."""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ..connection.handler_task import SWEEPS, HandlerTask
from ..connection.log_context import LogFields, fields_of
from ..support.tasks import call_later

logger = logging.getLogger(__name__)

BLOCKED_SECONDS = 0.1
# A block is noticed late by a part of its bound.
CHECKS = 10
# Code of others: the line that calls it is the one to change.
LIBRARIES = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(__file__).parents[1]), "<frozen "}
)


@asynccontextmanager
async def watch_loop(blocked_seconds: float = BLOCKED_SECONDS) -> AsyncIterator[None]:
    """Log a warning for each task that blocks the running event loop, with the line at which it is.

    A thread looks at the loop ten times per ``blocked_seconds``. Each block is one line, when it has lasted so long;
    one inside of a function that does not release Python's lock may be missed. It is for development: the loop wakes
    as often for it.

    Args:
        blocked_seconds: How long a block lasts that is logged.
    """
    watchdog = Watchdog(asyncio.get_running_loop(), blocked_seconds)
    watchdog.start()
    try:
        yield
    finally:
        await watchdog.stop()


class Watchdog:
    """The thread that looks at an event loop.

    Attributes:
        beat_at: When the loop has last run a callback of this object, on the monotonic clock.

    Args:
        loop: The event loop of the calling thread.
        blocked_seconds: How long a block lasts that is logged.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, blocked_seconds: float) -> None:
        self.loop = loop
        self.blocked_seconds = blocked_seconds
        self.interval_seconds = blocked_seconds / CHECKS
        self.loop_thread = threading.get_ident()
        self.thread = threading.Thread(target=self._watch, name="watchdog of the loop", daemon=True)
        self.stopping = threading.Event()
        self.beat_at = 0.0
        self.timer: asyncio.TimerHandle

    def start(self) -> None:
        """Start the thread."""
        self._beat()
        self.thread.start()

    async def stop(self) -> None:
        """Stop the thread."""
        self.timer.cancel()
        self.stopping.set()
        await asyncio.to_thread(self.thread.join)

    def _beat(self) -> None:
        self.beat_at = time.monotonic()
        self.timer = call_later(self.loop, self.interval_seconds, self._beat)

    def _watch(self) -> None:
        logged = 0.0
        while not self.stopping.wait(self.interval_seconds):
            beat_at = self.beat_at
            if beat_at != logged and time.monotonic() - beat_at >= self.blocked_seconds:
                logged = beat_at
                try:
                    self._log()
                except Exception:  # the loop has gone on meanwhile
                    logger.debug("the task that has blocked the loop is not known", exc_info=True)

    def _log(self) -> None:
        task = asyncio.current_task(self.loop)
        frames = own_frames(sys._current_frames().get(self.loop_thread))
        if task is None or not frames:
            return
        frame = frames[0]
        handler = handler_of(self.loop, task)
        fields: LogFields = {} if handler is None else fields_of(handler.connection)
        message_type = fields.get("message_type")
        logger.warning(
            "%s%s blocks the event loop for more than %d ms, at %s:%d in %s",
            task_name(task) if handler is None else f"{handler.name}: {method_in(task, frames)}",
            f" for {message_type!r}" if message_type else "",
            self.blocked_seconds * 1000,
            frame.f_code.co_filename,
            frame.f_lineno,
            frame.f_code.co_qualname,
            extra=fields,
        )


def handler_of(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> HandlerTask | None:
    """Return the connection whose handlers run in a task; ``None`` for another task."""
    sweep = SWEEPS.values.get(loop)
    tasks = () if sweep is None else tuple(sweep.tasks)
    return next((each for each in tasks if each.task is task), None)


def task_name(task: asyncio.Task[Any]) -> str:
    """Return the name of a task that does not belong to a connection."""
    return f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', 'unknown')})"


def own_frames(frame: FrameType | None) -> list[FrameType]:
    """Return the frames of the application's own code, the innermost first, or else the innermost one."""
    innermost = frame
    found = []
    while frame is not None:
        if not frame.f_code.co_filename.startswith(LIBRARIES):
            found.append(frame)
        frame = frame.f_back
    return found or [innermost] if innermost else []


def method_in(task: asyncio.Task[Any], frames: list[FrameType]) -> str:
    """Return the name of the method that a life cycle has called: the outermost frame within its own."""
    coroutine: Any = task.get_coro()
    for frame in reversed(frames):
        caller = frame.f_back
        while caller is not None:
            if caller.f_code is coroutine.cr_code:
                return frame.f_code.co_qualname
            caller = caller.f_back
    return frames[0].f_code.co_qualname
