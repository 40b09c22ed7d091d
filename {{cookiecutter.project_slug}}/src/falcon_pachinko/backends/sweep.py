"""Work at planned times for many names, with one timer for all of them."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

# The minimum interval of two sweeps.
SWEEP_SECONDS = 1.0

# A sweep blocks the event loop for about 2 µs per name; the next one continues after other work.
NAMES_PER_SWEEP = 1_000


class ExpirySweep:
    """Calls a function for each name at its planned time, or up to a second later.

    Args:
        on_due: Called with a planned time, its name and the current time. It may plan again. If it fails, that is
            logged, and the other calls take place.
    """

    __slots__ = ("on_due", "planned", "timer")

    def __init__(self, on_due: Callable[[float, str, float], None]) -> None:
        self.on_due = on_due
        self.planned: list[tuple[float, str]] = []
        self.timer: asyncio.TimerHandle | None = None

    def plan(self, at: float, name: str) -> None:
        """Plan a call; all planned calls of a name take place."""
        heapq.heappush(self.planned, (at, name))
        self._set_timer(at)

    def cancel(self) -> None:
        """Forget all planned calls."""
        self.planned.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _set_timer(self, at: float) -> None:
        timer = self.timer
        if timer is None or at < timer.when():
            if timer is not None:
                timer.cancel()
            self.timer = asyncio.get_running_loop().call_at(at, self._run)

    def _run(self) -> None:
        now = asyncio.get_running_loop().time()
        due: list[tuple[float, str]] = []
        while self.planned and self.planned[0][0] <= now and len(due) < NAMES_PER_SWEEP:
            due.append(heapq.heappop(self.planned))
        for at, name in due:
            try:
                self.on_due(at, name, now)
            except Exception:
                logger.exception("the work planned for %r failed", name)
        self.timer = None
        if self.planned:
            pause_seconds = SWEEP_SECONDS if len(due) < NAMES_PER_SWEEP else 0.0
            self._set_timer(max(self.planned[0][0], now + pause_seconds))
