"""The users in a room: pages of them with their records, and batches of joins and leaves in large rooms."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from .errors import MessageError, RegistrationError
from .messages import ENCODER, Message

T = TypeVar("T")

# The maximum size of the record of a connection: Redis stores all records of a user in one field.
MAX_RECORD_BYTES = 1024
NO_RECORDS: Mapping[str, tuple[msgspec.Raw, ...]] = MappingProxyType({})

# The records of a user's connections in a room, encoded, by the ids of the connections.
Records = Mapping[str, bytes]


class ChangeKind(enum.Enum):
    """What has changed for a user."""

    JOINED = "+"
    LEFT = "-"
    UPDATED = "*"
    UNKNOWN = "?"


class MemberChange(NamedTuple):
    """A user has joined a room, has left it, or has other records there.

    Attributes:
        room: The room.
        user: The user; ``None`` for a connection without one.
        kind: What has changed.
        records: All records of the user after the change, if it arrived from another process.
    """

    room: str
    user: str | None
    kind: ChangeKind
    records: Records = MappingProxyType({})


UNKNOWN_CHANGE = MemberChange("", None, ChangeKind.UNKNOWN)  # of any message from a history


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceBatch:
    """How a room with many users announces joins and leaves: one message per interval for all of them.

    While a room has more than ``above`` users, their join and leave messages are replaced by
    :class:`ServerPresenceChanged`. Other messages are never batched, nor is a connection without a user.
    The memory backend batches; over Redis each join and leave is announced by its own message.

    Attributes:
        above: The number of users above which the room is batched. Each list in the message has at most
            this number of users.
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


# What a batch has of a user: the payload of the user's join or leave message.
UserPayload = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "object"})]


class ServerPresenceChanged(Message, frozen=True):
    """Users have joined or left a large room: the net difference since the last message of this type.

    Each user is the payload of the user's join message, in `left` that of the leave message. A client that
    keeps a list of users replaces it with `users` where that is present; otherwise it removes those in `left`
    and adds those in `joined`, some of which it may know already. `count` is the number of users in either
    case.
    """

    joined: Annotated[
        list[UserPayload],
        msgspec.Meta(
            description="Users that have joined, in this order; not all of them if `moreJoined` is present.",
            examples=[[{"user": "Carol"}, {"user": "Dave"}]],
        ),
    ]
    left: Annotated[
        list[UserPayload],
        msgspec.Meta(
            description="Users that have left; not all of them if `moreLeft` is present.",
            examples=[[{"user": "Alice"}]],
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
        list[UserPayload] | msgspec.UnsetType,
        msgspec.Meta(
            description="The first users in the room, in the order in which they joined: all of them unless"
            " `count` is higher. Present where `left` is not complete, and where the room is no longer large.",
            examples=[[{"user": "Bob"}, {"user": "Carol"}]],
        ),
    ] = msgspec.UNSET


class MemberPage(list[str]):
    """Some of the users in a room, each once, in the order in which they joined.

    Attributes:
        total: The number of all users in the room.
        cursor: The place after the last user of this page, for ``members(room, after=...)``; it stays valid
            when that user leaves. ``None`` if no user follows.
        records: The records of the users that have any, as JSON; of each user those of its connections, in the
            order of their ids.

    Args:
        users: The users of the page.
    """

    __slots__ = ("cursor", "records", "total")

    def __init__(
        self,
        users: Iterable[str],
        total: int,
        cursor: int | None,
        records: Mapping[str, tuple[msgspec.Raw, ...]] = NO_RECORDS,
    ) -> None:
        super().__init__(users)
        self.total = total
        self.cursor = cursor
        self.records = records

    def decode(self, record_type: type[T]) -> dict[str, list[T]]:
        """Return the records of each user of the page; an empty list for a user without one.

        Fields that the type does not have are ignored.

        Raises:
            msgspec.ValidationError: A record does not have the type, because another version of the service has
                written it, for example.
        """
        decode = msgspec.json.Decoder(record_type).decode
        return {user: [decode(record) for record in self.records.get(user, ())] for user in self}


def encode_record(record: object) -> bytes | None:
    """Encode the record of a connection as JSON without line feeds and tabs; ``None`` for none.

    Raises:
        MessageError: The encoded record is larger than :data:`MAX_RECORD_BYTES`.
        TypeError: JSON cannot represent it.
    """
    if record is None:
        return None
    data = ENCODER.encode(record)
    if b"\n" in data or b"\t" in data:  # of a msgspec.Raw
        data = ENCODER.encode(msgspec.json.decode(data))
    if len(data) > MAX_RECORD_BYTES:
        raise MessageError(
            f"The presence record is too large: {len(data)} bytes, at most {MAX_RECORD_BYTES} are allowed.",
            code="recordTooLarge",
        )
    return data


def not_a_member(room: str, user: str) -> LookupError:
    """Return the error for a page after a user that is not in the room."""
    return LookupError(
        f"user {user!r:.60} is not in room {room!r:.60}: pass the cursor of the page before, which stays"
        " valid when its users leave"
    )
