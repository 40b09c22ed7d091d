"""The ends of sessions: one timer per event loop for all connections, by the wall clock."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Protocol

from ..support.loop_local import PerLoop
from ..support.tasks import call_later

logger = logging.getLogger(__name__)

# A connection is notified, and closed, up to this time late.
TICK_SECONDS = 0.5
# A client is notified ahead of the end by a tenth of the lifetime, and by no less than this.
LEAST_NOTICE_SECONDS = 30.0
NOTICE_SHARE = 0.1
# A refreshed session is announced in its second half at the earliest, or a client whose sessions are shorter
# than the least notice would refresh them without end.
MOST_NOTICE_SHARE = 0.5


class Expiring(Protocol):
    """A connection that ends with its session."""

    def _on_expiring(self, seconds: int) -> None:
        """Notify the client that so many seconds are left."""
        ...

    def _on_expired(self) -> None:
        """Close the connection."""
        ...


class Expiry:
    """The end of the session of one connection.

    Attributes:
        at: The end, in Unix seconds.
        due: The time of the notice; after it, that of the end.
        connection: The connection.

    Raises:
        TypeError: ``at`` is not a number.
        ValueError: ``at`` is not finite.
    """

    __slots__ = ("at", "connection", "due")

    def __init__(self, at: float, connection: Expiring, *, refreshed: bool = False) -> None:
        if isinstance(at, bool) or not isinstance(at, (int, float)):
            raise TypeError(f"expires_at is {at!r}: give Unix seconds, or None for no expiry")
        if not math.isfinite(at):
            raise ValueError(f"expires_at is {at!r}: give Unix seconds, or None for no expiry")
        lifetime = at - time.time()
        notice = max(LEAST_NOTICE_SECONDS, lifetime * NOTICE_SHARE)
        if refreshed:
            notice = min(notice, lifetime * MOST_NOTICE_SHARE)
        self.at = at
        self.due = min(at, at - notice - TICK_SECONDS)
        self.connection = connection

    @property
    def has_passed(self) -> bool:
        """Whether the session has ended."""
        return self.at <= time.time()

    @property
    def seconds_left(self) -> int:
        """The whole seconds until the end; 0 after it."""
        return max(0, int(self.at - time.time()))


class ExpiryWheel:
    """The open connections of an event loop whose sessions end, in one bucket per second.

    While there are any, a timer looks twice a second for buckets that are due. Adding and removing a
    connection take constant time. A change of the wall clock takes effect at the next tick.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buckets: dict[int, set[Expiry]] = {}
        self.timer: asyncio.TimerHandle | None = None
        # PERF: no bucket is earlier, so most ticks look at no bucket.
        self.earliest: float = math.inf

    def add(self, expiry: Expiry) -> None:
        """Call the connection at the notice and at the end, until it is discarded."""
        second = int(expiry.due)
        self.buckets.setdefault(second, set()).add(expiry)
        self.earliest = min(self.earliest, second)
        if self.timer is None:
            self.timer = call_later(self.loop, TICK_SECONDS, self._run)

    def discard(self, expiry: Expiry) -> None:
        """Call the connection no longer; one that has not been added is ignored."""
        second = int(expiry.due)
        bucket = self.buckets.get(second)
        if bucket is not None:
            bucket.discard(expiry)
            if not bucket:
                del self.buckets[second]

    def _run(self) -> None:
        self.timer = None
        now = time.time()
        if self.earliest <= now:
            seconds = [second for second in self.buckets if second <= now]
            due = [each for second in seconds for each in self.buckets[second] if each.due <= now]
            for expiry in due:
                self.discard(expiry)
            for expiry in due:
                try:
                    self._call(expiry, now)
                except Exception:
                    logger.exception("the expiry of a connection failed")
            self.earliest = min(self.buckets, default=math.inf)
        if self.buckets and self.timer is None:
            self.timer = call_later(self.loop, TICK_SECONDS, self._run)

    def _call(self, expiry: Expiry, now: float) -> None:
        if expiry.at <= now:
            expiry.connection._on_expired()
        else:
            expiry.due = expiry.at
            self.add(expiry)
            expiry.connection._on_expiring(expiry.seconds_left)


WHEELS = PerLoop(ExpiryWheel)
