"""The connections of each user."""

from __future__ import annotations

from ..connection.connection import Connection


class UserIndex:
    """The connections of each user, as set when they were accepted."""

    def __init__(self) -> None:
        self.user_of: dict[Connection, str] = {}
        self.connections: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection) -> None:
        """Add an accepted connection."""
        if connection.user is not None:
            self.user_of[connection] = connection.user
            self.connections.setdefault(connection.user, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a connection."""
        user = self.user_of.pop(connection, None)
        if user is not None:
            of_user = self.connections[user]
            del of_user[connection]
            if not of_user:
                del self.connections[user]

    def connections_of(self, user: str) -> tuple[Connection, ...]:
        """Return the connections of a user."""
        return tuple(self.connections.get(user, ()))
