"""Fan-out: the connections that receive a message, grouped by the kind of their outbox."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from ..connection.connection import Connection
from ..connection.counts import Sent
from ..connection.outbox import Outbox, OutboxGroup
from ..connection.state import CONNECTING, OPEN
from ..publication import Publication


class FanOut:
    """Connections that receive the same messages, such as the members of a room.

    Attributes:
        sent_at: The time of the last message to all of them, as in :attr:`.heartbeat.Heartbeats.now`.

    Args:
        connections: The connections. The fan-out is to be built again when one of them opens.
        sent: The count of what they have been sent; by default a new one.
    """

    __slots__ = ("connecting", "groups", "sent", "sent_at")

    def __init__(self, connections: Iterable[Connection], sent: Sent | None = None) -> None:
        self.sent = Sent() if sent is None else sent
        self.sent_at = -math.inf
        self.connecting: list[Connection] = []
        by_class: dict[type[Outbox], list[Outbox]] = {}
        for connection in connections:
            if connection.state is CONNECTING:
                self.connecting.append(connection)
            elif connection.state is OPEN:
                by_class.setdefault(type(connection._outbox), []).append(connection._outbox)
        self.groups: list[OutboxGroup] = []
        for kind, outboxes in by_class.items():
            self.groups.append(kind.group(outboxes))

    def send(self, publication: Publication, exclude: Collection[Connection] = ()) -> None:
        """Deliver a message to each connection that is neither excluded nor closed."""
        self.sent.sent += 1
        self.sent.sent_bytes += publication.size_bytes
        excluded = {connection._outbox for connection in exclude} if exclude else ()
        for group in self.groups:
            group.write(publication, excluded)
        for connection in self.connecting:
            if connection not in exclude:
                connection._deliver(publication)
