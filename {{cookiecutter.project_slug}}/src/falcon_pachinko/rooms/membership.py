"""Who is in which room: bookkeeping without a clock, a socket or a wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from ..errors import InvalidRoomName

MAX_ROOM_NAME_BYTES = 200


MemberT = TypeVar("MemberT")
AudienceT = TypeVar("AudienceT")
RecordT = TypeVar("RecordT")


def check_room_name(room: str) -> str:
    """Return the name if a room can have it: 1 to 200 bytes of UTF-8, no control characters, case counts.

    Raises:
        InvalidRoomName: It breaks the rule.
    """
    if not isinstance(room, str):
        raise InvalidRoomName(f"a room name is text, not {room!r}")
    try:
        size_bytes = len(room.encode())
    except UnicodeEncodeError:
        raise InvalidRoomName(f"room name {room!r} is not valid Unicode text") from None
    if not 1 <= size_bytes <= MAX_ROOM_NAME_BYTES:
        raise InvalidRoomName(
            f"room name {room!r:.60} has {size_bytes} bytes of UTF-8: it takes 1 to {MAX_ROOM_NAME_BYTES}"
        )
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in room):
        raise InvalidRoomName(
            f"room name {room!r} has a control character: use letters, digits and punctuation"
        )
    return room


class Rooms(Generic[MemberT, AudienceT, RecordT]):
    """The rooms of one process and their members. A room exists while somebody is in it.

    Args:
        make_audience: Makes of a room's members what the room is spoken to by.
    """

    def __init__(self, make_audience: Callable[[Iterable[MemberT]], AudienceT]) -> None:
        self.make_audience = make_audience
        self.members_by_room: dict[str, dict[MemberT, None]] = {}
        self.rooms_by_member: dict[MemberT, dict[str, RecordT]] = {}
        self.audiences: dict[str, AudienceT] = {}

    def join(self, member: MemberT, room: str, record: RecordT) -> None:
        """Add a member, with what is to be remembered of its being there."""
        self.rooms_by_member.setdefault(member, {})[room] = record
        self.members_by_room.setdefault(room, {})[member] = None
        self.audiences.pop(room, None)

    def leave(self, member: MemberT, room: str) -> RecordT:
        """Remove a member, and return what was remembered.

        Raises:
            KeyError: It is not there.
        """
        rooms = self.rooms_by_member[member]
        record = rooms.pop(room)
        if not rooms:
            del self.rooms_by_member[member]
        members = self.members_by_room[room]
        del members[member]
        if not members:
            del self.members_by_room[room]
        self.audiences.pop(room, None)
        return record

    def renew(self, member: MemberT) -> None:
        """Let audiences be made anew, because a member is spoken to by other means from now on."""
        for room in self.rooms_by_member.get(member, ()):
            self.audiences.pop(room, None)

    def has(self, member: MemberT, room: str) -> bool:
        """Whether a member is in a room."""
        return room in self.rooms_by_member.get(member, ())

    def members(self, room: str) -> tuple[MemberT, ...]:
        """All who are in the room, in the order in which they came."""
        return tuple(self.members_by_room.get(room, ()))

    def audience(self, room: str) -> AudienceT | None:
        """What :meth:`members` are spoken to by; ``None`` where nobody is."""
        # PERF: a broadcast needs it; it is made once per change of membership.
        audience = self.audiences.get(room)
        if audience is None and room in self.members_by_room:
            audience = self.audiences[room] = self.make_audience(self.members_by_room[room])
        return audience

    def rooms_of(self, member: MemberT) -> dict[str, RecordT]:
        """The rooms of a member, in the order in which it joined them, and what is remembered of each."""
        return dict(self.rooms_by_member.get(member, {}))
