"""A schedule at a fixed rate: plain code without a clock of its own."""

from __future__ import annotations


class Schedule:
    """Ticks at a fixed rate; however many were missed, one makes up for them.

    Attributes:
        last: The time of the last tick, or of the start.
    """

    __slots__ = ("last",)

    def __init__(self, now: float) -> None:
        self.last = now

    def tick(self, now: float, seconds: float) -> float:
        """Take the next tick if it is due.

        Args:
            now: The time.
            seconds: The interval; the next tick is one interval after the last one, also if it has changed.

        Returns:
            The seconds until the next tick; 0 if one was due, which is taken by this call.
        """
        wait_seconds = self.last + seconds - now
        if wait_seconds > 0:
            return wait_seconds
        self.last += max(1, (now - self.last) // seconds) * seconds
        return 0.0
