"""The rate of a client's frames that are not whole messages: its own, and that of its address."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..connection.rate_limit import TokenBucket, TokenBuckets, address_of, buckets_of
from ..limits import DEFAULT_SERVER_LIMITS, Limits
from ..support.loop_local import PerLoop

# SECURITY: a frame costs about 12 µs, so an address costs 6 % of a core at most in the long run.
TIMES_PER_ADDRESS = DEFAULT_SERVER_LIMITS.users_per_address
# A client that has sent only a few frames is not closed because of others behind its address.
FEW_FRAMES = 10

BUCKETS: PerLoop[dict[tuple[float, float], TokenBuckets]] = PerLoop(lambda loop: {})


class FrameRate:
    """The tokens for the frames of one connection.

    A connection has a bucket of its own, and shares another one, of 50 times the size, with all connections
    of its address.

    Args:
        limits: The bounds of the connection.
        address: The client's address, see :func:`..connection.rate_limit.address_of`.
        addresses: The buckets of all addresses.
        now: The time of the event loop.
    """

    __slots__ = ("address", "addresses", "own")

    def __init__(
        self,
        limits: Limits,
        address: str | None,
        addresses: dict[tuple[float, float], TokenBuckets],
        now: float,
    ) -> None:
        per_second, burst = limits.frames_per_second, limits.frame_burst
        self.own = TokenBucket(per_second, burst, now)
        self.address = address
        times = TIMES_PER_ADDRESS
        self.addresses = buckets_of(addresses, per_second * times, burst * times)

    @classmethod
    def of(
        cls, limits: Limits, scope: Mapping[str, Any], loop: asyncio.AbstractEventLoop
    ) -> FrameRate:
        """Make the tokens of the connection with an ASGI scope."""
        return cls(limits, address_of(scope), BUCKETS.of(loop), loop.time())

    def take(self, now: float) -> bool:
        """Take a token for a frame; return whether the connection may go on."""
        if not self.own.take(now):
            return False
        if self.address is None or self.addresses.of(self.address, now).take_available(now):
            return True
        return self.own.tokens >= self.own.size - FEW_FRAMES

    def used(self, now: float) -> float:
        """Return the share of the burst that has been used and is not available again, from 0 to 1."""
        missing = self.own.size - self.own.tokens - (now - self.own.at) * self.own.per_second
        return min(1.0, max(0.0, missing / self.own.size))
