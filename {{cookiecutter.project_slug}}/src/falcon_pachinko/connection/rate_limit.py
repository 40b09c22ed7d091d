"""A rate limit: a token bucket with a debt."""

from __future__ import annotations


class TokenBucket:
    """A token bucket that may go into debt, down to minus its size.

    The debt distinguishes a client that keeps sending too fast from one that did so once.

    Args:
        per_second: The number of tokens added per second.
        size: The initial and maximum number of tokens.
        now: The current time in seconds of any monotonic clock.
    """

    __slots__ = ("at", "per_second", "size", "tokens")

    def __init__(self, per_second: float, size: int, now: float) -> None:
        self.per_second = per_second
        self.size = size
        self.at = now
        self.tokens = float(size)

    def take(self, now: float) -> bool:
        """Take a token; return whether one was available."""
        tokens = self.tokens + (now - self.at) * self.per_second
        if tokens > self.size:  # PERF: half the cost of min()
            tokens = self.size
        self.at = now
        self.tokens = tokens = tokens - 1.0
        return tokens >= 0.0

    @property
    def empty_seconds(self) -> float:
        """The time until a token is available."""
        return max(0.0, (1.0 - self.tokens) / self.per_second)

    @property
    def exhausted(self) -> bool:
        """Whether the debt has reached its maximum."""
        return self.tokens <= -self.size
