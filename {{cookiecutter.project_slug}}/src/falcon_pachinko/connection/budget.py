"""The budget of a process for all data that waits for clients or for handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter

from ..close_codes import SLOW_READER
from ..support.tasks import call_later
from .connection import Connection

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
# Of the budget: below it reading continues.
RESUME_BELOW = 0.9
# The paused share of the clients whose messages wait, at each check.
PAUSED_SHARE = 0.1


class BufferBudget:
    """Keeps the data that waits in one process below a bound.

    All buffers are added up once a second. Above the bound the clients with the largest outboxes are closed
    with 4008 until the rest fits, and nothing more is read from the tenth of the clients with the largest
    inboxes, until less waits. No client that keeps up is closed.

    Attributes:
        outbox_bytes: The size of all outboxes at the last check.
        largest_bytes: The size of the largest one.

    Args:
        limit_bytes: The bound.
        groups: The connections of the process by id.
    """

    def __init__(self, limit_bytes: int, *groups: Mapping[str, Connection]) -> None:
        self.limit_bytes = limit_bytes
        self.outbox_bytes = self.largest_bytes = 0
        self.groups = groups
        self.paused: set[Connection] = set()
        self.timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Check once a second while there are connections. Idempotent."""
        if self.timer is None:
            self.timer = call_later(asyncio.get_running_loop(), CHECK_SECONDS, self._run)

    def _run(self) -> None:
        self.timer = None
        connections = [each for group in self.groups for each in group.values()]
        self.paused.intersection_update(connections)
        self.check(connections)
        if connections:
            self.start()

    def check(self, connections: Collection[Connection]) -> None:
        """Add up all buffers and enforce the bound."""
        # PERF: 7 ms with 10,000 connections.
        outboxes = [each._outbox.size_bytes for each in connections]
        self.outbox_bytes, self.largest_bytes = sum(outboxes), max(outboxes, default=0)
        total = self.outbox_bytes + sum(each._inbox.size_bytes for each in connections)
        total += sum(each._transaction.size_bytes for each in connections if each._transaction)
        if total <= self.limit_bytes:
            if total < RESUME_BELOW * self.limit_bytes:
                self._resume()
            return
        logger.warning(
            "%d bytes wait for clients or handlers: the bound is %d", total, self.limit_bytes
        )
        self._pause(connections)
        self._close(connections, total - self.limit_bytes)

    def _close(self, connections: Iterable[Connection], excess_bytes: int) -> None:
        """Close the clients with the largest outboxes, until as many bytes are free."""
        owners = [each for each in connections if each._carrier is each]
        outboxes = [(each._outbox.size_bytes, each) for each in owners if each._outbox.waiting]
        for size_bytes, connection in sorted(outboxes, key=itemgetter(0), reverse=True):
            if excess_bytes <= 0:
                return
            connection.abort(SLOW_READER, "reads too slowly, and the server buffers too much")
            excess_bytes -= size_bytes

    def _pause(self, connections: Iterable[Connection]) -> None:
        """Read nothing more from the clients with the largest inboxes."""
        inboxes = [
            (each._inbox.size_bytes, each) for each in connections if each not in self.paused
        ]
        inboxes = sorted(filter(itemgetter(0), inboxes), key=itemgetter(0), reverse=True)
        for _, connection in inboxes[: 1 + int(PAUSED_SHARE * len(inboxes))]:
            connection._inbox.pause()
            self.paused.add(connection)

    def _resume(self) -> None:
        while self.paused:
            self.paused.pop()._inbox.resume()
