"""The users in a room of the memory backend: entries, pages, and changes that wait for a batch."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter

import msgspec

from ..messages import ENCODER
from ..presence import NO_RECORDS, MemberPage, PresenceBatch, ServerPresenceChanged
from ..publication import Publication
from .presence import in_order

# The entries of a block. Removing one moves at most as many pointers, which is less than a call costs.
BLOCK = 512


class PresenceEntry:
    """The presence of a user in a room, from the first connection to the end of the last one.

    Attributes:
        user: The user; ``None`` for a connection without one, which is in no list.
        number: The place in the order of joining; higher than any earlier one of the room.
        connections: The ids of the user's connections.
        records: The encoded records of those that have one.
        join_data: The encoded join message, of which a batch sends the payload; empty if there is none.
        leave_message: Published when the user has left.
        expiry: The end of the grace period.
    """

    __slots__ = (
        "connections",
        "expiry",
        "join_data",
        "leave_message",
        "number",
        "records",
        "user",
    )

    def __init__(self, user: str | None, number: int) -> None:
        self.user = user
        self.number = number
        self.connections: set[str] = set()
        self.records: dict[str, bytes] = {}
        self.join_data = b""
        self.leave_message: Publication | None = None
        self.expiry: asyncio.TimerHandle | None = None

    def set_record(self, connection: str, record: bytes | None) -> None:
        """Replace or remove the record of a connection."""
        if record is not None:
            self.records[connection] = record
        elif self.records:
            self.records.pop(connection, None)

    @property
    def join_payload(self) -> msgspec.Raw:
        """The payload of the join message."""
        return payload_of(self.join_data, self.user)

    @property
    def leave_payload(self) -> msgspec.Raw:
        """The payload of the leave message."""
        message = self.leave_message
        return payload_of(b"" if message is None else message.data, self.user)

    def cancel_expiry(self) -> None:
        """End the grace period: the user has reconnected."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None


class Envelope(msgspec.Struct):
    """A message with its payload as JSON."""

    payload: msgspec.Raw


DECODE_ENVELOPE = msgspec.json.Decoder(Envelope).decode


def payload_of(data: bytes, user: str | None) -> msgspec.Raw:
    """Return the payload of an encoded message; ``{"user": ...}`` if the message has no object as its payload."""
    try:
        payload = DECODE_ENVELOPE(data).payload
    except msgspec.DecodeError:
        payload = msgspec.Raw()
    # NOTE: an object begins with its brace; a message that is sent as it is may have blanks before it.
    if bytes(payload).startswith(b"{"):
        return payload
    return msgspec.Raw(ENCODER.encode({"user": user}))


number_of = attrgetter("number")


class Roster:
    """The presence entries of a room, by key and in the order of joining.

    For a room of N users, adding and removing one costs O(log N), and a page O(log N) and its own size.

    Attributes:
        entries: All entries by key.
        blocks: The entries of users in the order of their numbers, in blocks of at most :data:`BLOCK`, none
            of them empty.
        count: The number of users.
        last_number: The number of the last entry.
    """

    __slots__ = ("blocks", "count", "entries", "last_number")

    def __init__(self) -> None:
        self.entries: dict[str, PresenceEntry] = {}
        self.blocks: list[list[PresenceEntry]] = []
        self.count = 0
        self.last_number = 0

    def add(self, key: str, user: str | None) -> PresenceEntry:
        """Add an entry under a new key."""
        self.last_number += 1
        entry = self.entries[key] = PresenceEntry(user, self.last_number)
        if user is not None:
            self.count += 1
            if not self.blocks or len(self.blocks[-1]) >= BLOCK:
                self.blocks.append([])
            self.blocks[-1].append(entry)
        return entry

    def remove(self, key: str) -> PresenceEntry:
        """Remove and return an entry.

        Raises:
            KeyError: There is none.
        """
        entry = self.entries.pop(key)
        if entry.user is not None:
            self.count -= 1
            index, place = self._find(entry.number)
            del self.blocks[index][place - 1]
            if not self.blocks[index]:
                del self.blocks[index]
        return entry

    def page(self, after: int = 0, limit: int | None = None) -> MemberPage:
        """Return the users after a number, at most ``limit`` of them."""
        end = None if limit is None else limit + 1  # one more shows whether any user follows
        found = list(islice(self._after(after), end))
        cursor = None
        if limit is not None and len(found) > limit:
            del found[limit:]
            cursor = found[-1][0].number
        records = {user: entry.records for entry, user in found if entry.records}
        page_records = in_order(records, records) if records else NO_RECORDS
        return MemberPage([user for _, user in found], self.count, cursor, page_records)

    def first(self, limit: int) -> list[PresenceEntry]:
        """Return the entries of the first users, at most ``limit`` of them."""
        return [entry for entry, _ in islice(self._after(0), limit)]

    def _find(self, number: int) -> tuple[int, int]:
        """Return the index of the block in which a number belongs, and the place after it there."""
        index = max(0, bisect_right(self.blocks, number, key=first_number_of) - 1)
        return index, bisect_right(self.blocks[index], number, key=number_of)

    def _after(self, number: int) -> Iterator[tuple[PresenceEntry, str]]:
        if not self.blocks:
            return
        index, place = self._find(number)
        for block in islice(self.blocks, index, None):
            for entry in islice(block, place, None):
                assert entry.user is not None
                yield entry, entry.user
            place = 0


def first_number_of(block: list[PresenceEntry]) -> int:
    """Return the first number of a block."""
    return block[0].number


class PresenceChanges:
    """The joins and leaves of a room that its next batch announces.

    A user that has joined is in the roster at once; a user that leaves stays there until the batch is
    published, so that a list of the room never lacks a user whose return is not announced. A user that has
    joined and leaves again is not announced, unless a list has shown the user meanwhile.

    Attributes:
        batch: The configuration.
        joined: The keys of users that have joined since the last batch, in order; some may be leaving.
        leaving: The keys of users without a connection, removed with the batch.
        listed: The keys in ``joined`` whose users are on a page that was returned meanwhile.
        was_counted: Whether the number of users was returned meanwhile.
        timer: Publishes the batch.
    """

    __slots__ = ("batch", "joined", "leaving", "listed", "timer", "was_counted")

    timer: asyncio.TimerHandle

    def __init__(self, batch: PresenceBatch) -> None:
        self.batch = batch
        self.joined: dict[str, None] = {}
        self.leaving: dict[str, None] = {}
        self.listed: set[str] = set()
        self.was_counted = False

    def leave(self, key: str) -> bool:
        """Let a user leave with the batch; return ``False`` for one that leaves at once, unannounced."""
        if key in self.joined and key not in self.listed:
            return False
        self.leaving[key] = None
        return True

    def on_page(self, page: MemberPage) -> None:
        """Note the users that the caller knows from now on."""
        self.was_counted = True
        if self.joined:
            self.listed.update(key for user in page if (key := f"u{user}") in self.joined)

    def take_message(self, roster: Roster) -> ServerPresenceChanged | None:
        """Remove the leaving users from the roster; return the message, if anything has changed."""
        joined = [roster.entries[key] for key in self.joined if key not in self.leaving]
        left = [roster.remove(key) for key in self.leaving]
        if not (self.joined or self.leaving or self.was_counted):
            return None
        limit = self.batch.above
        needs_list = len(left) > limit or roster.count <= limit
        users = (
            [entry.join_payload for entry in roster.first(limit)] if needs_list else msgspec.UNSET
        )
        return ServerPresenceChanged(
            joined=[entry.join_payload for entry in joined[:limit]],
            left=[entry.leave_payload for entry in left[:limit]],
            count=roster.count,
            more_joined=max(0, len(joined) - limit) or msgspec.UNSET,
            more_left=max(0, len(left) - limit) or msgspec.UNSET,
            users=users,
        )
