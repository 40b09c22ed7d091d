"""The contract of the connections of each user, counted over all processes."""

from __future__ import annotations

import asyncio


class UserCounts:
    """Counts the connections of each user in all processes; without an override, each process counts its own only.

    Like presence, a count is a lease: connections of a process that has ended count until its lease has expired, and
    what Redis has lost is written again. The bound holds exactly for any number of concurrent connections to processes
    that can reach Redis.
    """

    def reserve_user_nowait(self, user: str, max_connections: float) -> asyncio.Future[bool] | None:
        """Reserve a place for a connection of a user; act with the call, awaited or not.

        An error or an outage never refuses a connection: its process's own count decides then.

        Args:
            user: The user.
            max_connections: The maximum number of places of the user, the same in all processes.

        Returns:
            A handle that tells whether the place is granted; ``None`` if it is granted at once. Until there is a
            result, its cancellation withdraws the request.
        """
        return None

    def release_user(self, user: str) -> None:
        """Release a place that was granted."""
