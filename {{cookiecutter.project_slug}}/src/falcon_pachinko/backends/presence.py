"""The membership of one connection in a room, as backends store it."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from ..presence import MemberPage, PresenceBatch, Records, not_a_member
from ..publication import Publication

# NOTE: of the process, not of a connection: one that leaves a room and joins it again has a higher version.
versions = itertools.count(1)


class Presence:
    """The membership of one connection in a room.

    Attributes:
        connection: The connection's id.
        user: The connection's user; a connection without one counts by itself.
        join_message: Published to the room when the user joins.
        leave_message: Published to the room when the user has left.
        batch: How a large room announces the user instead; ``None`` for always by these messages.
        reconnects: Whether the client has named a position of an earlier connection.
        recent: How many of the room's last messages its client gets.
        sent: Whether the presence was sent to Redis, confirmed or not.
        announced: Whether the other members know that the user is in the room.
        hash: A random number, above zero, that represents the presence in the digest of a node's list.
        joined_at: The time of creation, on the process's monotonic clock.
        place: The user's place in the order of joining; ``None`` until Redis has assigned it.
        record: The connection's record, encoded; ``None`` for none.
        version: Increases with each record of this process; 0 if the connection has never had one.
        sent_version: The version that was sent to Redis, confirmed or not.
        wait_seconds: How much longer than the grace period the user remains present after the connection: its client
            was asked to wait so long before it reconnects.
    """

    __slots__ = (
        "announced",
        "batch",
        "connection",
        "hash",
        "join_message",
        "joined_at",
        "leave_message",
        "place",
        "recent",
        "reconnects",
        "record",
        "sent",
        "sent_version",
        "user",
        "version",
        "wait_seconds",
    )

    def __init__(
        self,
        connection: str,
        user: str | None,
        join_message: Publication | None = None,
        leave_message: Publication | None = None,
        batch: PresenceBatch | None = None,
        *,
        reconnects: bool = False,
        recent: int = 0,
        record: bytes | None = None,
    ) -> None:
        self.connection = connection
        self.user = user
        self.join_message = join_message
        self.leave_message = leave_message
        self.batch = batch
        self.reconnects = reconnects
        self.recent = recent
        self.sent = False
        self.announced = False
        self.hash = random.getrandbits(32) or 1
        self.place: int | None = None
        self.joined_at = time.monotonic()
        self.record: bytes | None = None
        self.version = self.sent_version = 0
        self.wait_seconds = 0.0
        if record is not None:
            self.set_record(record)

    def set_record(self, record: bytes | None) -> None:
        """Replace the record; the backend stores it with the next enter or update."""
        self.record = record
        self.version = next(versions)

    @property
    def key(self) -> str:
        """The key of the presence entry: the user, or the connection if it has no user."""
        return f"c{self.connection}" if self.user is None else f"u{self.user}"

    @property
    def has_messages(self) -> bool:
        """Whether the room receives a message when the user joins or leaves."""
        return self.join_message is not None or self.leave_message is not None


def user_of(key: str) -> str | None:
    """Return the user of a presence entry's key; ``None`` for a connection without one."""
    return key[1:] if key.startswith("u") else None


def page_of(
    room: str,
    numbered: Iterable[tuple[int, str]],
    after: int | str | None,
    limit: int | None,
    records: Mapping[str, Records] = MappingProxyType({}),
) -> MemberPage:
    """Return a page of the users among the keys of presence entries.

    Args:
        room: The room, for the error.
        numbered: The keys, each with its place in the order of joining, in this order. Keys in one place
            are never on different pages.
        after: As in :meth:`.base.Backend.members`.
        limit: Likewise.
        records: The records by connection of each user that has any.

    Raises:
        LookupError: ``after`` is a user that is not in the room.
    """
    users = [(number, key[1:]) for number, key in numbered if key.startswith("u")]
    if isinstance(after, str):
        number_of = next((number for number, user in users if user == after), None)
        if number_of is None:
            raise not_a_member(room, after)
        after = number_of
    rest = [(number, user) for number, user in users if number > (after or 0)]
    end = len(rest) if limit is None else min(limit, len(rest))
    while 0 < end < len(rest) and rest[end][0] == rest[end - 1][0]:
        end += 1
    cursor = rest[end - 1][0] if end < len(rest) else None
    names = [user for _, user in rest[:end]]
    return MemberPage(names, len(users), cursor, in_order(names, records))


def in_order(
    users: Iterable[str], records: Mapping[str, Records]
) -> dict[str, tuple[msgspec.Raw, ...]]:
    """Return the records of users, for each user in the order of the ids of its connections."""
    return {
        user: tuple(msgspec.Raw(found[connection]) for connection in sorted(found))
        for user in users
        if (found := records.get(user))
    }
