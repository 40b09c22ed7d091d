"""The connections of each user."""

from __future__ import annotations

import asyncio
import math

from ..backends.user_counts import UserCounts
from ..close_codes import ACCESS_DENIED
from ..connection.connection import Connection
from ..errors import Reject


class UserIndex:
    """The connections of each user to this process, as set when they were accepted.

    Args:
        max_connections: The maximum number of connections of one user, to this and to all processes.
        counts: Counts the connections to all processes.
    """

    def __init__(
        self,
        max_connections: float = math.inf,
        counts: UserCounts | None = None,
    ) -> None:
        self.max_connections = max_connections
        self.counts = UserCounts() if counts is None else counts
        self.user_of: dict[Connection, str] = {}
        # Each connection of a user, and whether it has been accepted.
        self.connections: dict[str, dict[Connection, bool]] = {}
        # Those for which the count of all processes has no result yet, or a refusal.
        self.requests: dict[Connection, asyncio.Future[bool]] = {}

    def reserve(self, connection: Connection) -> bool:
        """Count a connection that may be accepted; return whether its user may have it in this process.

        The count of all processes is asked, too; :meth:`wait_reserved` returns its result. A repeated call has no
        effect, unless the user has changed. A channel counts with its connection.
        """
        user = connection.user
        if connection._carrier is not connection:
            return True
        if self.user_of.get(connection) == user:
            return True
        self.remove(connection)
        if user is None:
            return True
        if len(self.connections.get(user, ())) >= self.max_connections:
            return False
        self._add(connection, user)
        return True

    async def wait_reserved(self, connection: Connection) -> bool:
        """Reserve a place for a connection; return whether its user may have it in all processes.

        Raises:
            Reject: The connection of a channel is another user's.
        """
        carrier = connection._carrier
        if carrier is not connection:
            return await self._wait_adopted(carrier, connection.user)
        if not self.reserve(connection):
            return False
        request = self.requests.get(connection)
        if request is not None:
            if not await request:
                self.remove(connection)
                return False
            self.requests.pop(connection, None)
        return True

    async def _wait_adopted(self, carrier: Connection, user: str | None) -> bool:
        """Make the user that a channel's ``on_connect`` has set the user of the connection, if it has none."""
        if user == carrier.user:
            # NOTE: another channel may have set the user, and still wait for the count.
            return user is None or await self.wait_reserved(carrier)
        if carrier.user is not None:
            raise Reject(ACCESS_DENIED, "this connection is another user's")
        carrier.user = user
        if not await self.wait_reserved(carrier):
            carrier.user = None
            return False
        self.add(carrier)
        return True

    def add(self, connection: Connection) -> None:
        """Add an accepted connection."""
        user = self.user_of.get(connection, connection.user)
        if user is not None:
            if connection not in self.user_of:
                self._add(connection, user)
            self.connections[user][connection] = True

    def _add(self, connection: Connection, user: str) -> None:
        self.user_of[connection] = user
        self.connections.setdefault(user, {})[connection] = False
        request = self.counts.reserve_user_nowait(user, self.max_connections)
        if request is not None:
            self.requests[connection] = request

    def remove(self, connection: Connection) -> None:
        """Remove a connection, accepted or not."""
        user = self.user_of.pop(connection, None)
        if user is None:
            return
        of_user = self.connections[user]
        del of_user[connection]
        if not of_user:
            del self.connections[user]
        request = self.requests.pop(connection, None)
        if request is None or (request.done() and not request.cancelled() and request.result()):
            self.counts.release_user(user)
        else:
            request.cancel()

    def connections_of(self, user: str) -> tuple[Connection, ...]:
        """Return the accepted connections of a user."""
        of_user = self.connections.get(user, {})
        return tuple(connection for connection, accepted in of_user.items() if accepted)
