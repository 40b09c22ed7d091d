"""Commands that close connections: those of a user, those in a room, or all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from ..backends.presence import Presence
from ..connection.connection import Connection
from ..publication import Publication
from ..support.tasks import TaskSet
from .membership import Membership

Rooms = Membership[Connection, Presence]


class CloseCommands:
    """Closes connections that existed when a command was sent, those that are about to be accepted included.

    Attributes:
        joining: The connections that are about to join a room, with the time since.

    Args:
        connections: The accepted connections by id.
        pending: The connections that are not accepted yet, by id.
        memberships: The rooms of the connections.
        tasks: Run the closing handshakes.
    """

    def __init__(
        self,
        connections: Mapping[str, Connection],
        pending: Mapping[str, Connection],
        memberships: Iterable[Rooms],
        tasks: TaskSet,
    ) -> None:
        self.connections = connections
        self.pending = pending
        self.memberships = tuple(memberships)
        self.tasks = tasks
        self.joining: dict[str, dict[Connection, float]] = {}

    def execute(self, command: Publication, room: str | None, age_seconds: float) -> None:
        """Close the connections that a command concerns after the messages that are pending for them."""
        sent_at = time.monotonic() - age_seconds
        code, reason = command.header.close_code, command.data.decode()
        found = self.in_room(room) if room is not None else self.of_user(command.header.user)
        older = [connection for connection, since in found.items() if since <= sent_at]
        self.close(older, code, reason)

    def close(self, connections: Iterable[Connection], code: int, reason: str) -> None:
        """Close connections after the messages that are pending for them.

        A connection that is not accepted yet is refused with HTTP 403, without the code and the reason.
        """
        for connection in connections:
            self.tasks.create_task(connection.close(code, reason))

    def in_room(self, room: str) -> dict[Connection, float]:
        """Return the connections in a room or about to join it, with the time since."""
        found = dict(self.joining.get(room, {}))
        for membership in self.memberships:
            for connection in membership.members(room):
                found[connection] = membership.record(connection, room).joined_at
        return found

    def of_user(self, user: str | None) -> dict[Connection, float]:
        """Return the connections of a user, or all, with the time since."""
        known = self.known
        return {each: each.opened_at for each in known if user is None or each.user == user}

    @property
    def known(self) -> tuple[Connection, ...]:
        """All connections; a channel ends with its own."""
        pending = (each for each in self.pending.values() if each._carrier is each)
        return (*self.connections.values(), *pending)

    def begin_join(self, connection: Connection, room: str) -> None:
        """Record that a connection is about to join a room."""
        self.joining.setdefault(room, {})[connection] = time.monotonic()

    def end_join(self, connection: Connection, room: str) -> None:
        """Record that it has joined, or has not."""
        joining = self.joining[room]
        del joining[connection]
        if not joining:
            del self.joining[room]
