"""Deadlines of connections: one timer per event loop checks all of them."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from ..support.loop_local import PerLoop
from ..support.tasks import call_later

logger = logging.getLogger(__name__)

# PERF: a timer per connection costs 200 bytes, and its cancellation leaves it in the loop's heap.
SWEEP_SECONDS = 0.5


class Checked(Protocol):
    """A connection that waits for its client."""

    def check(self, now: float) -> None:
        """End the connection if a deadline has passed.

        Args:
            now: The time of the event loop.
        """
        ...


class Sweep:
    """The connections of an event loop that have a deadline.

    While there are any, each is checked every ``SWEEP_SECONDS``: a deadline is met up to this time late.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connections: set[Checked] = set()
        self.timer: asyncio.TimerHandle | None = None

    def add(self, connection: Checked) -> None:
        """Check a connection until it is discarded. Idempotent."""
        self.connections.add(connection)
        if self.timer is None:
            self.timer = call_later(self.loop, SWEEP_SECONDS, self._run)

    def discard(self, connection: Checked) -> None:
        """Check a connection no longer; one that is not checked is ignored."""
        self.connections.discard(connection)

    def _run(self) -> None:
        """Check all connections; one whose check fails is logged and checked no longer."""
        self.timer = None
        now = self.loop.time()
        for connection in tuple(self.connections):
            if connection not in self.connections:  # another connection's check has discarded it
                continue
            try:
                connection.check(now)
            except Exception:
                logger.exception("the check of a connection failed")
                self.discard(connection)
        if self.connections and self.timer is None:
            self.timer = call_later(self.loop, SWEEP_SECONDS, self._run)


SWEEPS = PerLoop(Sweep)
