"""The ids of messages: texts that sort by time, made before the database is asked."""

from __future__ import annotations

import random
import time


class MessageIds:
    """Creates ids of 28 hexadecimal digits: 12 of the time in Unix milliseconds, 16 random ones.

    The ids of one process ascend strictly, also within a millisecond and after a step of the clock. The ids of
    several processes have the order of their clocks, and differ by the random digits.
    """

    def __init__(self) -> None:
        self.last = 0

    def next(self, now_ms: int) -> str:
        """Return the next id at a time in Unix milliseconds."""
        self.last = max(now_ms << 64 | random.getrandbits(64), self.last + 1)
        return f"{self.last:028x}"


def lowest_id(time_ms: int) -> str:
    """Return the lower bound of the ids of a time in Unix milliseconds."""
    return f"{time_ms:012x}"


def time_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000
