"""Rooms and their members: bookkeeping without clock, sockets or waiting."""

from __future__ import annotations

from typing import Generic, TypeVar

MemberT = TypeVar("MemberT")
RecordT = TypeVar("RecordT")


class Membership(Generic[MemberT, RecordT]):
    """The rooms of one process and their members. A room exists while it has a member."""

    def __init__(self) -> None:
        self.members_by_room: dict[str, dict[MemberT, None]] = {}
        self.rooms_by_member: dict[MemberT, dict[str, RecordT]] = {}

    def join(self, member: MemberT, room: str, record: RecordT) -> None:
        """Add a member with a record of its membership."""
        self.rooms_by_member.setdefault(member, {})[room] = record
        self.members_by_room.setdefault(room, {})[member] = None

    def leave(self, member: MemberT, room: str) -> RecordT:
        """Remove a member and return its record.

        Raises:
            KeyError: It is not a member.
        """
        rooms = self.rooms_by_member[member]
        record = rooms.pop(room)
        if not rooms:
            del self.rooms_by_member[member]
        members = self.members_by_room[room]
        del members[member]
        if not members:
            del self.members_by_room[room]
        return record

    def has(self, member: MemberT, room: str) -> bool:
        """Return whether a member is in a room."""
        return room in self.rooms_by_member.get(member, ())

    def record(self, member: MemberT, room: str) -> RecordT:
        """Return the record of a membership."""
        return self.rooms_by_member[member][room]

    def members(self, room: str) -> tuple[MemberT, ...]:
        """Return the members of a room in the order in which they joined."""
        return tuple(self.members_by_room.get(room, ()))

    def rooms_of(self, member: MemberT) -> dict[str, RecordT]:
        """Return the rooms of a member in the order in which it joined them, with their records."""
        return dict(self.rooms_by_member.get(member, {}))
