"""The drain of a process that stops: when each of its connections is closed, and what its client is told."""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import Collection, Mapping

from ..close_codes import SERVICE_RESTART
from ..connection.carrier import carried
from ..connection.connection import Connection
from ..server.drain import DrainPolicy
from .registry import ConnectionRegistry

logger = logging.getLogger(__name__)

# A client is asked to wait so long before it reconnects; a random time, so that clients that are closed together do not
# return together.
WAIT_SECONDS = (0.5, 2.5)


class Drain:
    """Closes the connections of a process that stops, each with the time after which its client may reconnect.

    It is a :class:`~falcon_pachinko.server.drain.DrainExtension`. A connection that is in several rooms is one, and so
    are its presences: the user remains present in all of them while the client waits.

    Attributes:
        has_begun: Whether the process is about to stop.

    Args:
        registry: The connections of the process.
    """

    def __init__(self, registry: ConnectionRegistry) -> None:
        self.registry = registry
        self.has_begun = False
        # NOTE: ids, so that an ended connection is not kept until its turn.
        self.planned: deque[tuple[float, str]] = deque()

    def begin(self) -> None:
        """Report from now on that the process is not ready."""
        self.has_begun = True

    def plan(self, policy: DrainPolicy) -> None:
        """Plan when each of the present connections is to be closed, if ``policy.seconds`` is above 0."""
        self.planned.clear()
        count = len(self.registry.connections)
        if not count or not policy.seconds:
            return
        logger.info("draining: %d connections within %g s", count, policy.seconds)
        rate = count / policy.seconds
        if rate > policy.connections_per_second:
            logger.warning(
                "draining %d connections in %g s is %.0f a second, above the %g that another node takes"
                " (APP_DRAIN_CONNECTIONS_PER_SECOND): %d s would be enough (APP_DRAIN_SECONDS)",
                count,
                policy.seconds,
                rate,
                policy.connections_per_second,
                math.ceil(count / policy.connections_per_second),
            )
        ids = drain_order({each.id: self._rooms_of(each) for each in self._connections})
        self.planned.extend((number / rate, each) for number, each in enumerate(ids))

    def advance(self, elapsed_seconds: float) -> bool:
        """Close the connections whose time has come; return whether others follow."""
        while self.planned and self.planned[0][0] <= elapsed_seconds:
            connection = self.registry.connections.get(self.planned.popleft()[1])
            if connection is not None:
                self._close(connection, 0.0)
        return bool(self.planned)

    def close_rest(self, elapsed_seconds: float) -> None:
        """Close all other connections now; their clients are asked to reconnect when the plan has them do so.

        The time is shortened where the presence of their users would end before.
        """
        timing = self.registry.backend.timing
        longest = timing.expiry_seconds - timing.grace_seconds - WAIT_SECONDS[1]
        planned = {each: at for at, each in self.planned}
        last = max(planned.values(), default=0.0) - elapsed_seconds
        share = 1.0 if last <= longest else max(longest, 0.0) / last
        self.planned.clear()
        for connection in self._connections:  # those that were accepted since the plan, too
            rest = planned.get(connection.id, elapsed_seconds) - elapsed_seconds
            self._close(connection, rest * share)

    @property
    def _connections(self) -> tuple[Connection, ...]:
        return tuple(self.registry.connections.values())

    def _rooms_of(self, connection: Connection) -> list[str]:
        return [room for each in carried((connection,)) for room in self.registry.rooms_of(each)]

    def _close(self, connection: Connection, rest_seconds: float) -> None:
        """Close a connection, and keep its user present while the client waits."""
        if connection.closed:
            return
        wait_seconds = round(rest_seconds + random.uniform(*WAIT_SECONDS), 1)
        for each in carried((connection,)):
            for presence in self.registry.rooms_of(each).values():
                presence.wait_seconds = wait_seconds
        self.registry.commands.close((connection,), SERVICE_RESTART, f"retry={wait_seconds:.1f}")


def drain_order(rooms_by_connection: Mapping[str, Collection[str]]) -> list[str]:
    """Return connections in an order in which the members of each room are far from each other.

    A small room has precedence: in a large one a few members that are close do not matter.

    Args:
        rooms_by_connection: The names of the rooms of each connection.
    """
    members: dict[str, list[str]] = {}
    for connection, rooms in rooms_by_connection.items():
        for room in rooms:
            members.setdefault(room, []).append(connection)
    # Each connection gets a place in the circle from 0 to 1.
    places: dict[str, float] = {}
    for found in sorted(members.values(), key=len):
        rest = [each for each in found if each not in places]
        if len(found) == 1 or not rest:
            continue
        random.shuffle(rest)
        placed = next((places[each] for each in found if each in places), random.random())
        first = placed + 0.5 / len(rest)
        for number, each in enumerate(rest):
            places[each] = (first + number / len(rest)) % 1.0
    return sorted(rooms_by_connection, key=lambda each: places.get(each, random.random()))
