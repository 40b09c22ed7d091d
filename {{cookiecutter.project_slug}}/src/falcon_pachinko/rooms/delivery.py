"""Delivery to the connections of this process: the members of a room, a user, one connection, or all."""

from __future__ import annotations

from collections.abc import Collection

from ..backends.base import Backend
from ..backends.presence import Presence
from ..connection.connection import Connection
from ..limits import ServerLimits
from ..publication import DEFAULT_HEADER, Publication
from .announcements import Announcements
from .composition import Composition
from .exclusions import Exclusions
from .heartbeat import Heartbeats
from .membership import Membership
from .traffic import Traffic, count_direct
from .users import UserIndex


class Delivery(Composition):
    """The part of the registry that delivers messages; its attributes are described there.

    Args:
        backend: The backend of the rooms.
        limits: The bounds of all connections together.
    """

    def __init__(self, backend: Backend, limits: ServerLimits) -> None:
        self.backend = backend
        self.counters = backend.counters
        self.connections: dict[str, Connection] = {}
        self.channels: dict[str, Connection] = {}
        self.pending: dict[str, Connection] = {}
        self.users = UserIndex(limits.connections_per_user, backend)
        self.exclusions = Exclusions(self.connections, self.channels, self.pending, self.users)
        self.synced: Membership[Connection, Presence] = Membership()
        self.traffic = Traffic(self.synced, self.is_visible)
        self.fanouts = self.make_fanouts()
        self.heartbeats = Heartbeats(self.connections, self.synced, self.fanouts, backend)
        self.announcements = Announcements(self.synced, self._fan_out)

    def find(self, connection_id: str) -> Connection | None:
        """Return an accepted connection or channel; ``None`` if it has ended or is another process's."""
        return self.connections.get(connection_id) or self.channels.get(connection_id)

    def is_visible(self, connection: Connection) -> bool:
        """Return whether a connection or channel has been accepted and has not ended."""
        return connection.id in self.connections or connection.id in self.channels

    def deliver(self, room: str, publication: Publication) -> None:
        """Deliver a message to the members of a room; a join or a leave may wait, see :mod:`.announcements`."""
        if room not in self.synced.members_by_room:
            return
        excluded: Collection[Connection] = ()
        if publication.header is not DEFAULT_HEADER:
            excluded = self.exclusions.of(publication.header)
            self.heartbeats.on_partial_delivery(room, publication.position)
        if publication.change and self.announcements.hold(room, publication, excluded):
            return
        if self.announcements:
            self.announcements.flush(room)
        self._fan_out(room, publication, excluded)

    def _fan_out(
        self, room: str, publication: Publication, excluded: Collection[Connection]
    ) -> None:
        fanout = self.fanouts.get(room)
        if fanout is None:
            members, sent = self.synced.members_by_room[room], self.traffic.rooms[room]
            fanout = self.fanouts[room] = self.make_fanout(members, sent)
        fanout.send(publication, excluded)
        if excluded:
            self.traffic.exclude(room, publication, excluded)
        elif publication.header is DEFAULT_HEADER:
            fanout.sent_at = self.heartbeats.now

    def deliver_direct(self, publication: Publication) -> None:
        """Deliver a message to the connections that its header names, or to all."""
        header = publication.header
        named: Collection[Connection] = self.connections.values()
        if header.connection is not None:
            named = tuple(filter(None, [self.find(header.connection)]))
        elif header.user is not None:
            named = self.users.connections_of(header.user)
        elif self.announcements:
            self.announcements.flush_all()
        if self.announcements:
            for connection in named:
                self.announcements.catch_up(connection)
        excluded = self.exclusions.of(header)
        excluded += [each._carrier for each in excluded]
        self.make_fanout(named).send(publication, excluded)
        self.counters.messages_out += count_direct(publication, named, excluded)
