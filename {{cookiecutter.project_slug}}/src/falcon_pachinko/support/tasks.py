"""Tasks and timers that end with their owner."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from typing import Any


class TaskSet:
    """The background tasks and timers of one owner."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.timers: set[asyncio.TimerHandle] = set()

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task and keep a reference to it: an event loop holds only weak references."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function after a delay."""

        def call() -> None:
            self.timers.discard(timer)
            function()

        timer = asyncio.get_running_loop().call_later(seconds, call)
        self.timers.add(timer)

    async def aclose(self) -> None:
        """Cancel all timers and tasks, and wait until the tasks have ended."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        while self.tasks:
            await cancel(self.tasks)


def call_later(
    loop: asyncio.AbstractEventLoop, seconds: float, function: Callable[..., object], *args: object
) -> asyncio.TimerHandle:
    """Call a function later, in a context of its own: the caller may be a connection, and the timer is for all."""
    return loop.call_later(seconds, function, *args, context=contextvars.Context())


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # NOTE: before Python 3.12, asyncio.wait_for (used by redis-py) may swallow a cancellation
        #   (https://github.com/python/cpython/issues/86296): cancel again.
        _, pending = await asyncio.wait(pending, timeout=1.0)


def ignore(*_: object) -> None:
    """Do nothing: a callback without effect, which also releases the owner of the one that it replaces."""


def retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Mark a failure as retrieved for asyncio: its cause is handled elsewhere, or the operation is repeated."""
    if not future.cancelled():
        future.exception()
