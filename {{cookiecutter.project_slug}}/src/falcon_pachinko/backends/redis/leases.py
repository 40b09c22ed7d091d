"""Leases: the exclusive right to run a named task, for a limited time, and the schedules of their holders."""

from __future__ import annotations

import asyncio

from ..base import Leases
from ..lease import Lease, check_lease
from . import operations
from .pipeline import Pipeline


class RedisLeases(Leases):
    """The leases of a node.

    Attributes:
        holder: The name of the node.
        held: The leases that this node holds, by name.
        ticks: The last known tick of each schedule of a held lease, by the names of both, in milliseconds on
            the clock of Redis.
        schedules: The schedules of all leases that this node holds or has tried to acquire, as Redis returned
            them: names and values in turn. The next holder stores them again if Redis has lost its data.

    Args:
        pipeline: Executes operations.
        seconds: The duration of a lease.
    """

    holder: str

    def __init__(self, pipeline: Pipeline, seconds: float) -> None:
        self.pipeline = pipeline
        self.seconds = seconds
        self.held: dict[str, Lease] = {}
        self.ticks: dict[tuple[str, str], int] = {}
        self.schedules: dict[str, dict[str, str]] = {}

    @property
    def duration_ms(self) -> int:
        """The duration of a lease in milliseconds."""
        return round(self.seconds * 1000)

    def known_schedules(self, name: str) -> list[str]:
        """Return the schedules of a lease, names and values in turn."""
        return [part for item in self.schedules.get(name, {}).items() for part in item]

    async def acquire(self, name: str) -> Lease | float:
        """Acquire a lease, or return the seconds until the next attempt."""
        self.pipeline.check_available()
        asked_at = asyncio.get_running_loop().time()
        is_unheld = name not in self.held
        schedules = self.known_schedules(name)
        operation = operations.acquire(
            name, self.holder, self.duration_ms, is_unheld=is_unheld, schedules=schedules
        )
        token, self.schedules[name] = await self.pipeline.call(operation)
        if token <= 0:
            return float(-token) / 1000
        self.held[name] = Lease(name, token, asked_at + self.seconds)
        return self.held[name]

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease; return whether it is still held."""
        if self.held.get(lease.name) is not lease:
            return False
        self.pipeline.check_available()
        asked_at = asyncio.get_running_loop().time()
        schedules = self.known_schedules(lease.name)
        operation = operations.renew(lease, self.holder, self.duration_ms, schedules)
        is_held = await self.pipeline.call(operation)
        if not is_held:
            self.forget(lease)
        elif self.held.get(lease.name) is lease:
            lease.expires = asked_at + self.seconds
        return self.held.get(lease.name) is lease

    async def release(self, lease: Lease) -> None:
        """Release a lease."""
        self.forget(lease)
        self.pipeline.call_ignoring_outcome(operations.release(lease, self.holder))

    def forget(self, lease: Lease) -> None:
        """Revoke a lease that this node does not hold any more."""
        lease.revoke()
        if self.held.get(lease.name) is lease:
            del self.held[lease.name]
            self.ticks = {key: last for key, last in self.ticks.items() if key[0] != lease.name}

    async def tick(self, lease: Lease, schedule: str, seconds: float) -> float:
        """Take the next tick of a schedule if it is due; find out the last one before."""
        interval_ms = max(1, round(seconds * 1000))
        while True:
            check_lease(lease)
            self.pipeline.check_available()
            known = self.ticks.get((lease.name, schedule))
            operation = operations.tick(lease, self.holder, schedule, interval_ms, known)
            tick = await self.pipeline.call(operation)
            if tick is None:
                self.forget(lease)
            check_lease(lease)
            assert tick is not None  # otherwise the lease is revoked
            last, wait_ms, is_taken = tick
            self.ticks[lease.name, schedule] = last
            self.schedules.setdefault(lease.name, {})[schedule] = f"{last} {interval_ms}"
            if is_taken:
                return 0.0
            if wait_ms > 0:
                return float(wait_ms) / 1000
