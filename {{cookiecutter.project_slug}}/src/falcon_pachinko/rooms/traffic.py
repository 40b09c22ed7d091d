"""How much connections have been sent: counted once per room, not once per member."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..backends.presence import Presence
from ..connection.connection import Connection
from ..connection.counts import Sent
from ..connection.state import OPEN
from ..publication import Publication
from .membership import Membership


class Traffic:
    """Counts the messages of a room for all of its members together.

    An outbox counts the messages that are written to itself; one without ``counts_groups`` does not count those of its
    rooms. When its connection enters a room, the count of the room is subtracted from its own, and added again when
    the connection leaves.

    Attributes:
        rooms: The count of each room that has a member.
        excluded: The messages that open members of rooms have not received because they were excluded.

    Args:
        synced: The members of rooms that receive live messages.
        is_visible: Returns whether a connection has been accepted and has not ended; others receive no live message.
    """

    def __init__(
        self,
        synced: Membership[Connection, Presence],
        is_visible: Callable[[Connection], bool],
    ) -> None:
        self.rooms: dict[str, Sent] = {}
        self.excluded = 0
        self.synced = synced
        self.is_visible = is_visible

    def enter(self, connection: Connection, room: str) -> None:
        """Count for a connection from now on what the room is sent; not before it receives live messages."""
        sent = self.rooms.setdefault(room, Sent())
        if self._receives(connection, room):
            add(connection, -sent.sent, -sent.sent_bytes)

    def leave(self, connection: Connection, room: str) -> None:
        """Count what the room has been sent since the connection has entered it."""
        if self._receives(connection, room):
            sent = self.rooms[room]
            add(connection, sent.sent, sent.sent_bytes)

    def end(self, connection: Connection) -> None:
        """Count what all rooms of a connection have been sent, before it ends."""
        for room in self.synced.rooms_of(connection):
            self.leave(connection, room)

    def exclude(
        self, room: str, publication: Publication, excluded: Collection[Connection]
    ) -> None:
        """Do not count a message of a room for the members that have not received it."""
        for connection in set(excluded):
            if self._receives(connection, room):
                # NOTE: a member that is closing is not among those of a fan-out.
                self.excluded += connection.state is OPEN
                add(connection, -1, -publication.size_bytes)

    def _receives(self, connection: Connection, room: str) -> bool:
        return self.is_visible(connection) and self.synced.has(connection, room)


def count_direct(
    publication: Publication, recipients: Collection[Connection], excluded: Collection[Connection]
) -> int:
    """Count a message that connections have been sent as a group which is not a room; return their number."""
    excepted = set(excluded)
    included = [connection for connection in recipients if connection not in excepted]
    for connection in included:
        add(connection, 1, publication.size_bytes)
    return len(included)


def add(connection: Connection, messages: int, size_bytes: int) -> None:
    """Add to the counts of the outboxes of a connection that do not count the messages of a group."""
    for outbox in {connection._outbox, connection._carrier._outbox}:
        if not outbox.counts_groups:
            outbox.sent += messages
            outbox.sent_bytes += size_bytes
