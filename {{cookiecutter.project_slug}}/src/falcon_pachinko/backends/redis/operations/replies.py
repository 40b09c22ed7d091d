"""An operation of the script, and the values of the replies."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ....history import Position
from ....presence import ChangeKind, MemberChange, Records
from ...presence import user_of

T = TypeVar("T")

# The reply of an operation that the room has refused, because the node has no lease there.
FENCED = b"fenced"


class Operation(NamedTuple, Generic[T]):
    """An operation of the script.

    Attributes:
        request: The name, the hash tag and the arguments.
        decode: Converts the reply into a value.
        needs_lease: Whether the room refuses it without the node's lease there.
        may_wait: Whether it may wait for other operations for a short time, to share their call.
        cost: How long it takes at most, compared with a join.
    """

    request: tuple[Any, ...]
    decode: Callable[[Any], T]
    needs_lease: bool = False
    may_wait: bool = False
    cost: int = 1

    @property
    def tag(self) -> str:
        """The hash tag."""
        tag: str = self.request[1]
        return tag


class Caller(Protocol):
    """Executes an operation."""

    async def __call__(self, operation: Operation[T], /) -> T:
        """Return the value of the reply."""
        ...


class Terms(NamedTuple):
    """What a node tells about itself in the operations on leases.

    Attributes:
        node: The name of the node.
        lease: The duration of a lease.
        period: The time between two renewals.
        grace: The grace period.
        recovery: The time in which all nodes send their lists after a loss.
    """

    node: str
    lease: int
    period: int
    grace: int
    recovery: int

    @property
    def times(self) -> tuple[int, int, int]:
        """The durations that the operations on a room's leases need."""
        return self.lease, self.period, self.recovery


class Joined(enum.Enum):
    """The effect of :func:`enter`."""

    FIRST = b"first"
    ANOTHER = b"another"


class Announced(enum.Enum):
    """The effect of :func:`announce`: announced, also before; to be repeated; or no entry of the user."""

    DONE = b"done"
    LATER = b"later"
    UNKNOWN = b"unknown"


class Departure(enum.Enum):
    """The effect of :func:`leave`."""

    LEFT = b"left"
    GRACE = b"grace"
    STAYS = b"stays"


class Renewal(enum.Enum):
    """What a node has to do after :func:`renew_room`."""

    OK = b"ok"
    LIST = b"list"
    EXPIRE = b"expire"


class Entered(NamedTuple):
    """The reply to :func:`enter`.

    Attributes:
        joined: Whether it is the user's first connection.
        waits: Whether the announcement of the user waits until the room's recovery is over.
        place: The user's place in the order of joining.
        generation: The generation of the room's presence.
        recovery: The time for which announcements wait; 0 without a loss.
        version: The version of the room's list, which changes with it and without announcements.
    """

    joined: Joined
    waits: bool
    place: int
    generation: str
    recovery: int
    version: str


class Claimed(NamedTuple):
    """The reply to :func:`claim`.

    Attributes:
        generation: The generation of the room's presence.
        kept: Whether the node had a lease until now.
        is_lost: Whether the generation that the node knows was lost.
    """

    generation: str
    kept: bool
    is_lost: bool


class Renewed(NamedTuple):
    """The reply to :func:`renew_room`.

    Attributes:
        renewal: What to do.
        position: The room's position.
        recovery: The time until all nodes have sent their lists after a loss; 0 without one.
        version: The version of the room's list, which changes with it and without announcements; ``None`` if only
            the position was read.
    """

    renewal: Renewal
    position: Position
    recovery: int
    version: str | None


class Compared(NamedTuple):
    """The reply to :func:`compare`.

    Attributes:
        missing: The missing connections.
        more: Whether to repeat it.
        waiting: The keys of users whose announcement waits.
    """

    missing: list[str]
    more: bool
    waiting: list[str]


class Beat(NamedTuple):
    """The reply to :func:`beat`.

    Attributes:
        rooms: The number of rooms in the node's list.
        commands: The number of commands that are kept.
        other_protocol: Another version of the protocol that live nodes use; empty if there is none.
        nodes: The live nodes before the renewal.
        restrictions: The digest of the restrictions; empty beside another version.
    """

    rooms: int
    commands: int
    other_protocol: str
    nodes: list[str]
    restrictions: str


class Tick(NamedTuple):
    """The reply to :func:`tick`.

    Attributes:
        last: The time of the last tick.
        wait: The time until the next one.
        is_taken: Whether this call has taken a tick.
    """

    last: int
    wait: int
    is_taken: bool


class Counted(NamedTuple):
    """The reply to :func:`count_user`.

    Attributes:
        granted: The number of the node's connections of the user that are granted.
        old: If that is less than wanted, the other nodes whose numbers are older than a lease.
    """

    granted: int
    old: list[str]


class MissedCommand(NamedTuple):
    """A command that a node does not know, and how long ago it was sent."""

    identifier: str
    data: bytes
    age_seconds: float


class Page(NamedTuple):
    """The reply to :func:`page`.

    Attributes:
        total: The number of users in the room.
        position: The room's position at this time.
        users: Users with their places in the order of joining.
        more: Whether other users follow.
        records: The records by connection of each user that has any.
        recovery: The time for which users may be missing after a loss of the room's presence.
    """

    total: int
    position: Position
    users: list[tuple[int, str]]
    more: bool
    records: Mapping[str, Records] = MappingProxyType({})
    recovery: int = 0


def decode_text(reply: Any) -> str:
    """Decode a text."""
    text: str = reply.decode()
    return text


def decode_names(reply: Any) -> list[str]:
    """Decode a list of names."""
    return [name.decode() for name in reply]


def decode_nothing(reply: Any) -> None:
    """Ignore a reply."""
    return None


def decode_position(reply: Any) -> Position:
    """Decode a position."""
    epoch, offset = reply.split(b":")
    return Position(epoch.decode(), int(offset))


def decode_records(flat: Sequence[bytes]) -> Records:
    """Return the records of a user by connection from connections and records in turn."""
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def decode_change(room: str, encoded: bytes) -> MemberChange:
    """Decode the change of a room's members in the head of a message; see :mod:`..script`."""
    change, *records = encoded.split(b"\t")
    kind, user = ChangeKind(chr(change[0])), user_of(change[1:].decode())
    return MemberChange(room, user, kind, decode_records(records))
