"""Users and what they may do: the file to change for users of another kind, and for other rules."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from falcon_pachinko.names import MAX_USER_NAME_BYTES, check_user_name, fault_of_name

STAFF = "staff"
# Rooms for staff only: this one, and those whose names begin like this.
STAFF_ROOM, STAFF_ROOMS = "staff", "staff-"
# Rooms for users with an invitation link, and for staff.
PRIVATE_ROOMS = "private-"

# As JSON. A session token contains them, and a browser stores a cookie of at most 4,096 bytes.
MAX_ROLES_BYTES = 800


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in user, checked wherever it comes from.

    Attributes:
        id: The key of the user: for presence, messages to the user, bans. 1 to 255 bytes.
        name: The name that other users see; several users may have the same one. 1 to 255 bytes.
        roles: The names of the user's roles, for :func:`authorize`; at most 800 bytes.
        session_id: The session with which the user has signed in; ``None`` outside a session.
        expires_at: The end of the user's token in Unix seconds; ``None`` for no end.
        signed_in_at: The time of the sign-in in Unix seconds; ``None`` if it is not known.

    Id, name and roles are normalized (Unicode normalization form C).

    Raises:
        ValueError: The id, the name or a role is not valid (:func:`falcon_pachinko.names.check_user_name`), or
            there are too many roles.
    """

    id: str
    name: str
    roles: frozenset[str] = frozenset()
    session_id: str | None = None
    expires_at: float | None = None
    signed_in_at: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", check(self.id))
        object.__setattr__(self, "name", check(self.name))
        object.__setattr__(self, "roles", check_roles(self.roles))


def check(text: str) -> str:
    """Return the id, the name or a role of a user, normalized.

    Raises:
        ValueError: It is not valid.
    """
    if isinstance(text, str):
        text = unicodedata.normalize("NFC", text)
    return check_user_name(text)


def check_roles(roles: Iterable[str]) -> frozenset[str]:
    """Return the roles of a user, normalized.

    Raises:
        ValueError: One of them is not valid, or they are too many.
    """
    found = frozenset(check(role) for role in roles)
    size_bytes = len(json.dumps(sorted(found)))
    if size_bytes > MAX_ROLES_BYTES:
        raise ValueError(
            f"the user has {len(found)} roles with {size_bytes} bytes, and at most {MAX_ROLES_BYTES} are allowed"
        )
    return found


def fault_of_user_name(name: str) -> str:
    """Return why a name is not valid, such as ``is empty``; an empty text for a valid one."""
    return fault_of_name(unicodedata.normalize("NFC", name), MAX_USER_NAME_BYTES)


async def authorize(user: User, action: str, room: str | None, *, is_invited: bool = False) -> bool:
    """Return whether a user may act in a room: everybody in most rooms, some users in others.

    Args:
        user: The user.
        action: ``join`` before entering the room, also when a client reconnects or its session is refreshed;
            ``send`` before a text; ``read`` before a page of the past; ``moderate``.
        room: The name of the room; ``None`` outside a room.
        is_invited: Whether the user came through a valid invitation link to this room.
    """
    is_staff = STAFF in user.roles
    if action == "moderate":
        return is_staff
    if room is None:
        return True
    if room == STAFF_ROOM or room.startswith(STAFF_ROOMS):
        return is_staff
    if room.startswith(PRIVATE_ROOMS):
        return is_staff or is_invited
    return True
