"""The connections of each user."""

from __future__ import annotations

import math

from ..connection.connection import Connection


class UserIndex:
    """The connections of each user, as set when they were accepted.

    Args:
        max_connections: The maximum number of connections of one user.
    """

    def __init__(self, max_connections: float = math.inf) -> None:
        self.max_connections = max_connections
        self.user_of: dict[Connection, str] = {}
        # Each connection of a user, and whether it has been accepted.
        self.connections: dict[str, dict[Connection, bool]] = {}

    def reserve(self, connection: Connection) -> bool:
        """Count a connection that is about to be accepted; return whether its user may have another one."""
        user = connection.user
        if user is None:
            return True
        if len(self.connections.get(user, ())) >= self.max_connections:
            return False
        self._set(connection, user, accepted=False)
        return True

    def add(self, connection: Connection) -> None:
        """Add an accepted connection."""
        user = self.user_of.get(connection, connection.user)
        if user is not None:
            self._set(connection, user, accepted=True)

    def _set(self, connection: Connection, user: str, *, accepted: bool) -> None:
        self.user_of[connection] = user
        self.connections.setdefault(user, {})[connection] = accepted

    def remove(self, connection: Connection) -> None:
        """Remove a connection, accepted or not."""
        user = self.user_of.pop(connection, None)
        if user is not None:
            of_user = self.connections[user]
            del of_user[connection]
            if not of_user:
                del self.connections[user]

    def connections_of(self, user: str) -> tuple[Connection, ...]:
        """Return the accepted connections of a user."""
        of_user = self.connections.get(user, {})
        return tuple(connection for connection, accepted in of_user.items() if accepted)
