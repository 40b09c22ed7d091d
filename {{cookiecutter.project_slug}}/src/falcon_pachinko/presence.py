"""The users in a room: pages of them, and batches of joins and leaves in large rooms."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from .errors import RegistrationError
from .messages import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceBatch:
    """How a room with many users announces joins and leaves: one message per interval for all of them.

    While a room has more than ``above`` users, their join and leave messages are replaced by
    :class:`ServerPresenceChanged`. Other messages are never batched, nor is a connection without a user.
    The memory backend batches; over Redis each join and leave is announced by its own message.

    Attributes:
        above: The number of users above which the room is batched. Each list in the message has at most
            this number of names.
        seconds: The time from the first change to the message.

    Raises:
        RegistrationError: A value is not a number above zero.
    """

    above: int = 200
    seconds: float = 0.25

    def __post_init__(self) -> None:
        if not isinstance(self.above, int) or self.above < 1:
            raise RegistrationError(
                f"above is {self.above!r}: it must be a whole number above zero"
            )
        if not isinstance(self.seconds, (int, float)) or not 0 < self.seconds < math.inf:
            raise RegistrationError(f"seconds is {self.seconds!r}: it must be a number above zero")


class ServerPresenceChanged(Message, frozen=True):
    """Users have joined or left a large room: the net difference since the last message of this type.

    A client that keeps a list of names replaces it with `users` where that is present; otherwise it removes
    the names in `left` and adds those in `joined`, some of which it may know already. `count` is the number
    of users in either case.
    """

    joined: Annotated[
        list[str],
        msgspec.Meta(
            description="Users that have joined, in this order; not all of them if `moreJoined` is present.",
            examples=[["Carol", "Dave"]],
        ),
    ]
    left: Annotated[
        list[str],
        msgspec.Meta(
            description="Users that have left; not all of them if `moreLeft` is present.",
            examples=[["Alice"]],
        ),
    ]
    count: Annotated[
        int, msgspec.Meta(description="The number of users in the room now.", examples=[312])
    ]
    more_joined: Annotated[
        int | msgspec.UnsetType,
        msgspec.Meta(description="The number of further users that have joined.", examples=[41]),
    ] = msgspec.UNSET
    more_left: Annotated[
        int | msgspec.UnsetType,
        msgspec.Meta(description="The number of further users that have left.", examples=[7]),
    ] = msgspec.UNSET
    users: Annotated[
        list[str] | msgspec.UnsetType,
        msgspec.Meta(
            description="The first users in the room, in the order in which they joined: all of them unless"
            " `count` is higher. Present where `left` is not complete, and where the room is no longer large.",
            examples=[["Bob", "Carol", "Dave"]],
        ),
    ] = msgspec.UNSET


class MemberPage(list[str]):
    """Some of the users in a room, each once, in the order in which they joined.

    Attributes:
        total: The number of all users in the room.
        cursor: The place after the last user of this page, for ``members(room, after=...)``; it stays valid
            when that user leaves. ``None`` if no user follows.

    Args:
        users: The users of the page.
    """

    __slots__ = ("cursor", "total")

    def __init__(self, users: Iterable[str], total: int, cursor: int | None) -> None:
        super().__init__(users)
        self.total = total
        self.cursor = cursor


def not_a_member(room: str, user: str) -> LookupError:
    """Return the error for a page after a user that is not in the room."""
    return LookupError(
        f"user {user!r:.60} is not in room {room!r:.60}: pass the cursor of the page before, which stays"
        " valid when its users leave"
    )
