"""A registry that counts connections, joins and messages, in place of one that does not."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

from .. import close_codes
from ..backends.base import Backend
from ..backends.presence import Presence
from ..connection.connection import Connection
from ..connection.counts import Sent
from ..connection.entries import counted_table
from ..connection.state import CONNECTING, OPEN
from ..history import Position
from ..limits import ServerLimits
from ..publication import Publication
from ..server.admission import (
    ADDRESS_FULL,
    FULL,
    INVALID_HANDSHAKE,
    TOO_FAST,
    Admission,
    Place,
    Refusal,
)
from ..support.counters import Counters
from .fanout import FanOut
from .manager import WebSocketConnectionManager
from .recovery import Past
from .registry import ConnectionRegistry

TableT = TypeVar("TableT")

# The reasons of refusals by the code with which the connection was closed before it was open.
REASONS = {
    close_codes.ACCESS_DENIED: "access",
    close_codes.BAD_ROOM_NAME: "room_name",
    close_codes.SESSION_ENDED: "session",
    close_codes.TOO_MANY_CONNECTIONS: "user_connections",
    close_codes.TRY_AGAIN_LATER: "unavailable",
    close_codes.INTERNAL_ERROR: "error",
    close_codes.NO_STATUS_RECEIVED: "disconnected",
    close_codes.ABNORMAL_CLOSURE: "disconnected",
}
# The codes of the framework, and those of RFC 6455 section 7.4 that a client or a server may send.
KNOWN_CODES = {
    *REASONS,
    *close_codes.SENDABLE,
    close_codes.FORBIDDEN,
    close_codes.SLOW_READER,
    close_codes.TOO_MANY_MESSAGES,
}
# The reasons of refusals before the application.
REFUSALS = {
    FULL: "full",
    ADDRESS_FULL: "address_full",
    TOO_FAST: "address_rate",
    INVALID_HANDSHAKE: "invalid",
}
ALL_REASONS = {*REASONS.values(), *REFUSALS.values(), "handler", "origin"}


class CountedFanOut(FanOut):
    """A fan-out whose messages are counted later, from those of its room and the number of its connections.

    Args:
        connections: The connections; those that are connecting count for themselves.
        sent: The count of what the room has been sent; by default a new one.
    """

    __slots__ = ("sent_before", "size")

    def __init__(self, connections: Collection[Connection], sent: Sent | None) -> None:
        super().__init__(connections, sent)
        self.size = sum(each.state is OPEN for each in connections)
        self.sent_before = self.sent.sent

    def count(self) -> int:
        """Return the number of messages since the last call, those to excluded connections included."""
        number = (self.sent.sent - self.sent_before) * self.size
        self.sent_before = self.sent.sent
        return number


class CountedFanOuts(dict[str, FanOut]):
    """The fan-outs of rooms, which are counted when they are dropped.

    Args:
        counters: Gets the number of their messages.
    """

    def __init__(self, counters: Counters) -> None:
        super().__init__()
        self.counters = counters

    def pop(self, room: str, default: Any = None) -> Any:
        """Remove the fan-out of a room, and count its messages."""
        fanout = super().pop(room, default)
        if isinstance(fanout, CountedFanOut):
            self.counters.messages_out += fanout.count()
        return fanout

    def count(self) -> None:
        """Count the messages of all rooms."""
        for fanout in self.values():
            assert isinstance(fanout, CountedFanOut)
            self.counters.messages_out += fanout.count()


class CountedRegistry(ConnectionRegistry):
    """A registry whose events are counted in :attr:`counters`."""

    def __init__(self, backend: Backend, limits: ServerLimits) -> None:
        super().__init__(backend, limits)
        self.tables: dict[Any, Any] = {}
        self.classes: dict[type[Connection], type[Connection]] = {}
        self.counters.counting = True
        self.counters.known_codes |= KNOWN_CODES

    def add_pending(self, connection: Connection) -> None:
        """Add a connection whose own messages are counted from now on."""
        kind = type(connection)
        counted = self.classes.get(kind)
        if counted is None:
            counted = self.classes[kind] = counted_class(kind, self.counters)
        # PERF: a class of the same layout, so that a connection without metrics has no branch.
        connection.__class__ = counted
        super().add_pending(connection)

    async def add(self, connection: Connection) -> None:
        """Make an accepted connection visible to others."""
        self.counters.accepts += connection._carrier is connection
        await super().add(connection)

    def remove(self, connection: Connection) -> None:
        """Remove a connection at its end, and count the reason of its refusal."""
        if connection._carrier is connection and not self.is_visible(connection):
            self.counters.refusals[REASONS.get(connection.close_code or 0, "handler")] += 1
        super().remove(connection)

    async def join(self, connection: Connection, room: str, presence: Presence) -> bool:
        """Add a connection to a room, and time it."""
        started = time.perf_counter()
        joined = await super().join(connection, room, presence)
        self.counters.joins.observe(time.perf_counter() - started)
        return joined

    def send_past(self, connection: Connection, position: Position | None, past: Past) -> None:
        """Send the past of a room, and count whether it is complete for a reconnecting client."""
        if past.recovered is True:
            self.counters.recovered += 1
        elif past.recovered is False:
            self.counters.unrecovered += 1
        super().send_past(connection, position, past)

    def compose(self, table: TableT) -> TableT:
        """Return the table of handlers of a connection, which counts the messages."""
        counted: TableT | None = self.tables.get(table)
        if counted is None:
            counted = self.tables[table] = counted_table(table, self.counters)
        return counted

    def make_fanouts(self) -> CountedFanOuts:
        """Return a place for the fan-out of each room."""
        return CountedFanOuts(self.counters)

    def make_fanout(self, connections: Iterable[Connection], sent: Sent | None = None) -> FanOut:
        """Return the fan-out to connections."""
        return CountedFanOut(tuple(connections), sent)

    def count_messages(self) -> None:
        """Bring the number of messages to clients up to date."""
        assert isinstance(self.fanouts, CountedFanOuts)
        self.fanouts.count()
        self.counters.messages_out -= self.traffic.excluded
        self.traffic.excluded = 0


def counted_class(kind: type[Connection], counters: Counters) -> type[Connection]:
    """Return a class of connections that counts the messages to each of them."""

    class Counted(kind):  # type: ignore[misc, valid-type]  # a class that is known at run time only
        __slots__ = ()

        def _send(self, publication: Publication) -> Any:
            if self.state is OPEN or self.state is CONNECTING:
                counters.messages_out += 1
            return kind._send(self, publication)

        def _receive(self, publication: Publication) -> None:
            # NOTE: what is delivered before the accept is delivered once more after it.
            if self.state is OPEN:
                counters.messages_out += 1
            kind._receive(self, publication)

    Counted.__name__, Counted.__qualname__ = kind.__name__, kind.__qualname__
    return Counted


class CountedAdmission(Admission):
    """An admission that counts what it refuses."""

    counters: Counters

    def _check(self, result: Place | Refusal, address: str | None) -> Place | Refusal:
        if isinstance(result, Refusal):
            self.counters.refusals[REFUSALS[result]] += 1
        return super()._check(result, address)

    def refuse_request(self, refusal: Refusal, client: tuple[str, int] | None) -> None:
        """Count an invalid handshake, and log any refusal."""
        if refusal == INVALID_HANDSHAKE:
            self.counters.refusals[REFUSALS[refusal]] += 1
        super().refuse_request(refusal, client)


def count_events(manager: WebSocketConnectionManager, admission: Admission) -> Counters:
    """Count the connections, messages and refusals of an application; called before the first connection."""
    registry = CountedRegistry(manager.backend, admission.limits)
    manager._registry = manager.backend.node = manager._drain.registry = registry
    admission.__class__ = CountedAdmission
    assert isinstance(admission, CountedAdmission)
    admission.counters = registry.counters
    return registry.counters
