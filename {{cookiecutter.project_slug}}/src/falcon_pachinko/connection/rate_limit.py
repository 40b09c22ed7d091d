"""How often something may happen: a token bucket."""

from __future__ import annotations


class TokenBucket:
    """Tokens come back at a steady rate and are kept up to a number; who takes more goes into debt.

    The debt is as deep as the bucket is high: who goes on taking is told apart from who once took too many.

    Args:
        per_second: How many tokens come back in a second.
        size: How many tokens are there at first, and at most.
        now: The present moment, in seconds of any monotonic clock.
    """

    __slots__ = ("at", "per_second", "size", "tokens")

    def __init__(self, per_second: float, size: int, now: float) -> None:
        self.per_second = per_second
        self.size = size
        self.at = now
        self.tokens = float(size)

    def take(self, now: float) -> bool:
        """Take a token; say whether there was one."""
        tokens = self.tokens + (now - self.at) * self.per_second
        if tokens > self.size:  # PERF: half as dear as min()
            tokens = self.size
        self.at = now
        self.tokens = tokens = tokens - 1.0
        return tokens >= 0.0

    @property
    def empty_seconds(self) -> float:
        """How long nothing may be taken before there is a token again."""
        return max(0.0, (1.0 - self.tokens) / self.per_second)

    @property
    def exhausted(self) -> bool:
        """Whether the debt is as deep as it can be."""
        return self.tokens <= -self.size
