"""The connections of a process that do not receive a message: its sender's, and those of excluded users."""

from __future__ import annotations

from collections.abc import Mapping

from ..connection.carrier import carried
from ..connection.connection import Connection
from ..publication import Header
from .users import UserIndex


class Exclusions:
    """Finds the connections that a header excludes.

    A message that excludes a connection may be delivered here after its client has reconnected: it excludes the
    new connection as well.

    Attributes:
        successors: The connection whose client has named an earlier one, by the id of that one.

    Args:
        connections: Accepted connections by id.
        channels: Accepted channels of connections that are in several rooms, by id.
        pending: Connections whose ``on_connect`` has not accepted yet, by id.
        users: The connections of each user.
    """

    def __init__(
        self,
        connections: Mapping[str, Connection],
        channels: Mapping[str, Connection],
        pending: Mapping[str, Connection],
        users: UserIndex,
    ) -> None:
        self.connections = connections
        self.channels = channels
        self.pending = pending
        self.users = users
        self.successors: dict[str, Connection] = {}

    def add(self, connection: Connection) -> None:
        """Add a connection, by the ids of its client's earlier ones."""
        for previous in connection._previous_ids:
            self.successors[previous] = connection

    def remove(self, connection: Connection) -> None:
        """Remove a connection at its end."""
        for previous in connection._previous_ids:
            if self.successors.get(previous) is connection:
                del self.successors[previous]

    def of(self, header: Header) -> list[Connection]:
        """Return the connections that a header excludes."""
        known = (self.connections, self.channels, self.pending, self.successors)
        ids = header.exclude_connections
        excluded = [by_id[each] for each in ids for by_id in known if each in by_id]
        for user in header.exclude_users:
            excluded += carried(self.users.connections_of(user))
            excluded += [c for c in self.pending.values() if c.user == user]
        return excluded
