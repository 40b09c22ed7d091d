"""The delay of an event loop's timers: how long its callbacks keep each other waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# The interval between two measurements.
INTERVAL_SECONDS = 0.25


class LoopLag:
    """Measures the delay of a timer, four times a second, between :meth:`start` and :meth:`stop`.

    Args:
        observe: Is called with each delay in seconds.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self.observe = observe
        self.timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure from now on. Idempotent."""
        if self.timer is None:
            self._schedule()

    def stop(self) -> None:
        """Measure no longer. Idempotent."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _schedule(self) -> None:
        # NOTE: not the loop's clock, which uvloop stops during a callback.
        due = time.monotonic() + INTERVAL_SECONDS
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(INTERVAL_SECONDS, self._measure, due)

    def _measure(self, due: float) -> None:
        self.observe(max(0.0, time.monotonic() - due))
        self._schedule()
