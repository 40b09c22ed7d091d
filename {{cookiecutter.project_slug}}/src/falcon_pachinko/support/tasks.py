"""What runs beside, and ends with whoever has begun it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Background:
    """Tasks and timers of one owner."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.timers: set[asyncio.TimerHandle] = set()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let something run; an event loop keeps no task alive by itself."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call something later."""

        def call() -> None:
            self.timers.discard(timer)
            function()

        timer = asyncio.get_running_loop().call_later(seconds, call)
        self.timers.add(timer)

    async def end(self) -> None:
        """Cancel all, and wait until the tasks have ended."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        while self.tasks:
            for task in self.tasks:
                task.cancel()
            # NOTE: asyncio.wait_for, which redis-py's cluster client uses, swallows a cancellation now and then
            #   before Python 3.12 (https://github.com/python/cpython/issues/86296).
            await asyncio.wait(self.tasks, timeout=1.0)
