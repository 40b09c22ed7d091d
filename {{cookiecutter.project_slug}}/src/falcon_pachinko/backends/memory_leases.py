"""The leases of a single process."""

from __future__ import annotations

import asyncio
import math

from .base import Leases
from .lease import Lease, check_lease
from .schedule import Schedule


class MemoryLeases(Leases):
    """Leases that end with their release only: there is no other process.

    Args:
        retry_seconds: The time after which an attempt to acquire a held lease is repeated.
    """

    def __init__(self, retry_seconds: float) -> None:
        self.retry_seconds = retry_seconds
        self.token = 0
        self.leases: dict[str, Lease] = {}
        self.schedules: dict[tuple[str, str], Schedule] = {}

    async def acquire(self, name: str) -> Lease | float:
        """Acquire a lease, or return the seconds until the next attempt."""
        if name in self.leases:
            return self.retry_seconds
        self.token += 1
        self.leases[name] = Lease(name, self.token, math.inf)
        return self.leases[name]

    async def renew(self, lease: Lease) -> bool:
        """Return whether the lease is still held."""
        return self.leases.get(lease.name) is lease

    async def release(self, lease: Lease) -> None:
        """Release a lease."""
        lease.revoke()
        if self.leases.get(lease.name) is lease:
            del self.leases[lease.name]

    async def tick(self, lease: Lease, schedule: str, seconds: float) -> float:
        """Take the next tick of a schedule if it is due."""
        check_lease(lease)
        now = asyncio.get_running_loop().time()
        found = self.schedules.setdefault((lease.name, schedule), Schedule(now))
        return found.tick(now, seconds)
