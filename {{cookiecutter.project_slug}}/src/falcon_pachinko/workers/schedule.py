"""Ticks at an interval, which a worker that runs once per cluster takes over from its predecessor."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator

from ..backends.base import Leases
from ..backends.lease import Lease
from ..backends.schedule import Schedule
from ..errors import BackendUnavailable, RegistrationError
from .backoff import check_seconds

logger = logging.getLogger(__name__)

# The pause after a tick that could not be taken because Redis is unavailable.
RETRY_SECONDS = 1.0


class LeasedSchedules:
    """The schedules of a worker that runs once per cluster.

    Args:
        leases: Keeps the schedules.
        lease: The worker's lease.
    """

    def __init__(self, leases: Leases, lease: Lease) -> None:
        self.leases = leases
        self.lease = lease
        self.waiting: set[str] = set()

    async def wait_tick(self, name: str, seconds: float) -> None:
        """Wait for the next tick; an outage of Redis delays it.

        Raises:
            LeaseLost: The lease is not held any more.
            RegistrationError: Another loop of the worker waits for the same schedule.
        """
        if name in self.waiting:
            raise RegistrationError(
                f"two loops of {self.lease.name} wait for the schedule {name!r} at the same time:"
                " give each a name, as in every(60, name='cleanup')"
            )
        self.waiting.add(name)
        try:
            while True:
                wait_seconds = await self.tick(name, seconds)
                if wait_seconds <= 0:
                    return
                await asyncio.sleep(wait_seconds)
        finally:
            self.waiting.discard(name)

    async def tick(self, name: str, seconds: float) -> float:
        """Take the next tick if it is due; return the seconds until the next attempt, or 0."""
        try:
            return await self.leases.tick(self.lease, name, seconds)
        except BackendUnavailable as error:
            logger.info("worker %s: tick not taken: %s; retrying", self.lease.name, error)
            return RETRY_SECONDS


# The schedules of the worker that is running in this context, if it runs once per cluster.
CURRENT_SCHEDULES: contextvars.ContextVar[LeasedSchedules | None] = contextvars.ContextVar(
    "schedules", default=None
)


class Ticks(AsyncIterator[None]):
    """See :func:`every`."""

    def __init__(self, seconds: float, name: str) -> None:
        self.seconds = seconds
        self.name = name
        self.local: Schedule | None = None

    async def __anext__(self) -> None:
        """Wait for the next tick."""
        schedules = CURRENT_SCHEDULES.get()
        if schedules is not None:
            await schedules.wait_tick(self.name, self.seconds)
            return
        loop = asyncio.get_running_loop()
        if self.local is None:
            self.local = Schedule(loop.time())
        while True:
            wait_seconds = self.local.tick(loop.time(), self.seconds)
            if wait_seconds <= 0:
                return
            await asyncio.sleep(wait_seconds)


def every(seconds: float, *, name: str = "") -> AsyncIterator[None]:
    """Yield at a fixed rate, for ``async for _ in every(3600):``; the first time after one interval.

    In a worker that runs once per cluster the schedule belongs to the cluster: after a restart, or in the
    process that takes over, the loop continues it. If Redis has no schedule, because none has run for three
    intervals (at least 5 minutes), it starts with one interval. Elsewhere the schedule begins with the loop.

    A tick counts before the loop's body runs: the body runs at most once per interval in the cluster, and is
    not repeated if it fails or its process dies. However many ticks were missed, the body runs once for them,
    at once. While Redis is unavailable, a tick that is due waits.

    Args:
        seconds: The interval.
        name: The name of the schedule; needed if a worker runs several loops at the same time.

    Raises:
        ConfigurationError: ``seconds`` is not above zero or not finite.
        LeaseLost: From the loop: another process has taken over the worker.
    """
    check_seconds("seconds", seconds)
    return Ticks(seconds, name)
