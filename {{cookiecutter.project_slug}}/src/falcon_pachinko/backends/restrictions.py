"""The contract of restrictions: banned and muted users, revoked sessions.

The restrictions are a map in which the last change of an entry wins. Each process holds all of it, so that a check is
a lookup in a dict and works during an outage of Redis. A removal is an entry, too, which is kept as long as an earlier
one would have had an effect: a process that was cut off cannot bring that back. Whether an entry has ended is decided
by the clock of each process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from .restriction_entry import RestrictionChange
from .restriction_table import RestrictionTable


class Restrictions(ABC):
    """The contract of restrictions, kept for all processes.

    Attributes:
        restrictions: All restrictions, as this process knows them.
    """

    restrictions: RestrictionTable

    @abstractmethod
    async def restrict(self, change: RestrictionChange) -> None:
        """Change an entry; return when each live process has applied it and closes the connections it concerns.

        A process that is cut off applies it when it has recovered. No loss of data in Redis or Valkey undoes it
        while one process lives. Nothing is applied if Redis is known to be unavailable.

        Raises:
            BackendUnavailable: A process may not have applied it, or a single process has not stored it.
            LeaseLost: The caller is a worker that another process has replaced.
            TooManyRestrictions: There are :data:`MAX_RESTRICTIONS`, or for sessions
                :data:`MAX_WITH_REVOCATIONS`; nothing has changed.
        """
