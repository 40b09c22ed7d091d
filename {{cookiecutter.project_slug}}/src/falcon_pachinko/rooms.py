"""Who is in which room: bookkeeping without a clock, a socket or a wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from .errors import InvalidRoomName

MAX_ROOM_NAME_BYTES = 200


class Member(Protocol):
    """What the bookkeeping has to know of a connection."""

    user: str | None
    """Whose connection it is; ``None`` counts as somebody of its own."""

    @property
    def visible(self) -> bool:
        """Whether others may know of it: not before ``on_connect`` accepted."""


MemberT = TypeVar("MemberT", bound=Member)
AudienceT = TypeVar("AudienceT")


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


class Rooms(Generic[MemberT, AudienceT]):
    """Rooms and their members. A room exists while somebody is in it.

    Args:
        make_audience: Makes of a room's members what the room is spoken to by.
    """

    def __init__(self, make_audience: Callable[[Iterable[MemberT]], AudienceT]) -> None:
        self.make_audience = make_audience
        self.members_by_room: dict[str, dict[MemberT, None]] = {}
        self.rooms_by_member: dict[
            MemberT, dict[str, str | None]
        ] = {}  # room -> user at the time of joining
        self.members_by_user: dict[tuple[str, str], set[MemberT]] = {}
        self.audiences: dict[str, AudienceT] = {}

    def join(self, member: MemberT, room: str) -> bool:
        """Add a member; say whether its user was not visibly there before (again: ``False``)."""
        check_room_name(room)
        rooms = self.rooms_by_member.setdefault(member, {})
        if room in rooms:
            return False
        rooms[room] = member.user
        self.members_by_room.setdefault(room, {})[member] = None
        self.audiences.pop(room, None)
        if member.user is not None:
            self.members_by_user.setdefault((room, member.user), set()).add(member)
        return self.is_only_visible(member, room, member.user)

    def leave(self, member: MemberT, room: str) -> bool:
        """Remove a member; say whether its user was visibly there and is not any more."""
        rooms = self.rooms_by_member.get(member, {})
        if room not in rooms:
            return False
        user = rooms.pop(room)
        if not rooms:
            del self.rooms_by_member[member]
        members = self.members_by_room[room]
        del members[member]
        if not members:
            del self.members_by_room[room]
        self.audiences.pop(room, None)
        last = member.visible and self.is_only_visible(member, room, user)
        if user is not None:
            of_user = self.members_by_user[room, user]
            of_user.discard(member)
            if not of_user:
                del self.members_by_user[room, user]
        return last

    def is_only_visible(self, member: MemberT, room: str, user: str | None) -> bool:
        """Whether no other connection of this user is visibly in the room."""
        of_user = self.members_by_user.get((room, user), ()) if user is not None else ()
        return not any(other.visible for other in of_user if other is not member)

    def leave_all(self, member: MemberT) -> None:
        """Remove a member from every room."""
        for room in self.rooms_of(member):
            self.leave(member, room)

    def show(self, member: MemberT) -> None:
        """Note that a member has become visible."""
        for room in self.rooms_by_member.get(member, ()):
            self.audiences.pop(room, None)

    def members(self, room: str) -> tuple[MemberT, ...]:
        """All who get what is said in the room, those not yet visible too, in the order in which they came."""
        return tuple(self.members_by_room.get(room, ()))

    def audience(self, room: str) -> AudienceT | None:
        """What :meth:`members` are spoken to by; ``None`` where nobody is."""
        # PERF: a broadcast needs it; it is made once per change of membership.
        audience = self.audiences.get(room)
        if audience is None and room in self.members_by_room:
            audience = self.audiences[room] = self.make_audience(self.members_by_room[room])
        return audience

    def users(self, room: str) -> list[str]:
        """The users who are visibly in the room, each once, in the order in which they came."""
        visible = (m for m in self.members(room) if m.visible)
        users = (self.rooms_by_member[m][room] for m in visible)
        return list(dict.fromkeys(user for user in users if user is not None))

    def rooms_of(self, member: MemberT) -> list[str]:
        """The rooms of a member, in the order in which it joined them."""
        return list(self.rooms_by_member.get(member, ()))

    def with_prefix(self, prefix: str) -> list[str]:
        """The names of rooms that begin so and have a visible member, sorted."""
        return sorted(
            room
            for room, members in self.members_by_room.items()
            if room.startswith(prefix) and any(member.visible for member in members)
        )
