"""What a node knows of its own connections in a room: the truth that Redis or Valkey has to agree with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..presence import Presence
from .script import ENTRIES_PER_SLICE


class Leaving(NamedTuple):
    """A connection that has left; Redis has not confirmed it yet.

    Attributes:
        presence: The connection.
        grace: Whether the user stays for the grace period.
        is_uncertain: Whether the user may have left already: the reply is lost.
    """

    presence: Presence
    grace: bool
    is_uncertain: bool = False


class Ending(NamedTuple):
    """The grace period of a user whose last connection was here.

    Attributes:
        presence: That connection.
        until: The end of the period on the event loop's clock.
        is_uncertain: Whether Redis may have removed the user already: a reply is lost.
    """

    presence: Presence
    until: float
    is_uncertain: bool = False


class Slice(NamedTuple):
    """A part of the list of a node's connections, as :func:`.operations.compare` takes it."""

    after: str
    up_to: str
    items: list[list[str | int]]


class RoomPresence:
    """The connections of a node in a room.

    Attributes:
        connections: The connections in the room, by id.
        entering: The ids of those whose enter has been submitted and has no reply yet.
        leaving: Those that have left, until Redis has confirmed it.
        ending: The users in their grace period that this node ends, by key.
        expiring: Those of them whose removal has been submitted.
        waiting: The keys of users whose announcement may wait in Redis for the end of a recovery.
        generation: The generation of the presence in Redis that has these entries; empty before the first reply.
        claimed: Whether the node has asked for the lease.
        version: The version of the list that the clients have read; ``None`` before the first reply.
        is_listing: Whether the list is being sent.
    """

    __slots__ = (
        "claimed",
        "connections",
        "ending",
        "entering",
        "expiring",
        "generation",
        "is_listing",
        "leaving",
        "version",
        "waiting",
    )

    def __init__(self) -> None:
        self.connections: dict[str, Presence] = {}
        self.entering: set[str] = set()
        self.leaving: dict[str, Leaving] = {}
        self.ending: dict[str, Ending] = {}
        self.expiring: set[str] = set()
        self.waiting: set[str] = set()
        self.generation = ""
        self.claimed = False
        self.is_listing = False
        self.version: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the node has nothing to do with the room."""
        return not (self.connections or self.leaving or self.ending)

    @property
    def is_ending(self) -> bool:
        """Whether operations that have been submitted remove all that the node has in the room."""
        return not self.connections and self.ending.keys() <= self.expiring

    @property
    def digest(self) -> int:
        """The sum of the hashes of all connections and the versions of their records, which Redis keeps, too."""
        return sum(presence.hash + presence.version for presence in self.connections.values())

    def is_only(self, presence: Presence) -> bool:
        """Return whether the user has no other connection here."""
        others = self.connections.values()
        return all(other.key != presence.key or other is presence for other in others)

    def find(self, connection: str) -> Presence | None:
        """Return a connection that is here, or whose leave is not confirmed."""
        leaving = self.leaving.get(connection)
        return leaving.presence if leaving is not None else self.connections.get(connection)

    def slices(self) -> Iterator[Slice]:
        """Split the list of all entries by key; the slices cover all keys without a gap."""
        items: dict[str, list[str | int]] = {}
        present = [*self.connections.values(), *(each.presence for each in self.leaving.values())]
        for presence in present:
            item = items.setdefault(presence.key, [presence.key])
            item += (presence.connection, presence.hash, presence.version)
        for key in self.ending:
            items.setdefault(key, [key])
        # NOTE: Redis compares bytes.
        keys = sorted(items, key=str.encode)
        after = ""
        for start in range(0, max(len(keys), 1), ENTRIES_PER_SLICE):
            part = keys[start : start + ENTRIES_PER_SLICE]
            up_to = part[-1] if start + ENTRIES_PER_SLICE < len(keys) else ""
            yield Slice(after, up_to, [items[key] for key in part])
            after = up_to
