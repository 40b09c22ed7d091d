"""The operations of the script: one typed function for each, and the replies as values.

Durations are milliseconds. A ``tag`` is the hash tag of a room (:func:`.script.hash_tag`) or of the nodes.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from ...errors import LeaseLost
from ...history import History, Position
from ...publication import Records
from ..base import Lease
from ..presence import Presence
from .script import NODES, raw

T = TypeVar("T")

# The time of an operation compared with a join: of a slice of a node's list, of the users of a page, and of the names of
# rooms in one operation.
SLICE_COST = 32
USERS_PER_COST = 20
ROOMS_PER_COST = 30

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

    def __call__(self, operation: Operation[T], /) -> Awaitable[T]:
        """Return the value of the reply."""


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


class Joined(enum.Enum):
    """The effect of :func:`enter`."""

    FIRST = b"first"
    ANOTHER = b"another"


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
    """

    joined: Joined
    waits: bool
    place: int
    generation: str
    recovery: int


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
    """

    renewal: Renewal
    position: Position
    recovery: int


class Compared(NamedTuple):
    """The reply to :func:`compare`: the missing connections, whether to repeat it, and the keys of users whose announcement waits."""

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
    """

    rooms: int
    commands: int
    other_protocol: str
    nodes: list[str]


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


def _text(reply: Any) -> str:
    text: str = reply.decode()
    return text


def _names(reply: Any) -> list[str]:
    return [name.decode() for name in reply]


def decode_records(flat: Sequence[bytes]) -> Records:
    """Return the records of a user by connection from connections and records in turn."""
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def _ignored(reply: Any) -> None:
    return None


def _position(reply: Any) -> Position:
    epoch, offset = reply.split(b":")
    return Position(epoch.decode(), int(offset))


def publish(
    tag: str, data: bytes, *, ephemeral: bool, node: str | None = None, lease: Lease | None = None
) -> Operation[Position]:
    """Publish to a room; ``node`` if it has members there, ``lease`` of the publishing worker.

    The reply raises LeaseLost if a newer worker has published there.
    """
    if lease is None:
        request: tuple[Any, ...] = ("publish", tag, raw(data), ephemeral, node, None, None)
        return Operation(request, _position, needs_lease=node is not None)

    def decode(reply: Any) -> Position:
        if reply == b"replaced":
            lease.revoke()
            raise LeaseLost(f"another worker has taken over the lease of {lease.name!r}")
        return _position(reply)

    request = ("publish", tag, raw(data), ephemeral, node, lease.name, lease.token)
    return Operation(request, decode, needs_lease=node is not None)


def send(tag: str, data: bytes) -> Operation[int]:
    """Publish to a channel that has no room; returns the number of receivers."""
    return Operation(("send", tag, raw(data)), int)


def sync_room(
    tag: str,
    terms: Terms,
    history: History | None,
    known: Position | None,
    *,
    everything: bool,
) -> Operation[Sequence[Any]]:
    """Read a room's position, and a piece of the publications after a known one; see ``stream.Fetched``."""
    bounds = (0, 0, 0)
    if history is not None:
        bounds = (history.messages, round(history.seconds * 1000), history.room_bytes)
    epoch, offset = (None, None) if known is None else (known.epoch, known.offset)
    details = (bounds, epoch, offset, everything, terms.recovery, terms.lease)
    return Operation(("sync_room", tag, *details), tuple)


def release_room(tag: str) -> Operation[None]:
    """Delete a room without subscribers, or let its history expire."""
    return Operation(("release_room", tag), _ignored, may_wait=True)


def trim_histories() -> Operation[None]:
    """Forget expired histories."""
    return Operation(("trim_histories", NODES), _ignored)


def renew_room(
    tag: str,
    terms: Terms,
    *,
    in_doubt: bool,
    generation: str,
    digest: int | None,
    known: Position | None,
    extend: bool,
) -> Operation[Renewed]:
    """Renew the node's lease in a room; with ``digest`` ``None``, only read the room's position.

    Args:
        tag: The hash tag of the room.
        terms: The node.
        in_doubt: Whether other nodes may have been unable to renew their leases.
        generation: The generation of the presence that the node knows.
        digest: The digest of the node's list.
        known: The position of the last publication delivered on the node.
        extend: Whether to extend the life of the keys.
    """

    def decode(reply: Any) -> Renewed:
        status, epoch, offset, recovery = reply
        position = Position(epoch.decode(), int(offset))
        return Renewed(Renewal(status), position, int(recovery))

    node = None if digest is None else terms.node
    times = (terms.lease, terms.period, terms.recovery)
    epoch, offset = (None, None) if known is None else (known.epoch, known.offset)
    details = (times, in_doubt, generation, str(digest), epoch, offset, extend)
    return Operation(("renew_room", tag, node, *details), decode)


def expire_nodes(tag: str, terms: Terms, *, in_doubt: bool) -> Operation[bool]:
    """Remove a slice of the users of expired nodes; returns whether others follow."""
    request = ("expire_nodes", tag, terms.node, terms.period, in_doubt)
    return Operation(request, bool, cost=SLICE_COST)


def claim(tag: str, terms: Terms, *, in_doubt: bool, known: str) -> Operation[Claimed]:
    """Acquire the node's lease in a room before the list of its connections is compared."""

    def decode(reply: Any) -> Claimed:
        generation, kept, is_lost = reply
        return Claimed(generation.decode(), bool(kept), bool(is_lost))

    details = (terms.lease, terms.period, in_doubt, known, terms.recovery)
    return Operation(("claim", tag, terms.node, *details), decode)


def end_list(tag: str, terms: Terms) -> Operation[None]:
    """Record that the list of the node is complete."""
    return Operation(("end_list", tag, terms.node), _ignored)


def compare(
    tag: str, terms: Terms, after: str, up_to: str, items: Sequence[Sequence[str | int]]
) -> Operation[Compared]:
    """Compare a slice of the node's list with Redis.

    Args:
        tag: The hash tag of the room.
        terms: The node.
        after: The last key of the slice before; empty for the first slice.
        up_to: The last key of this slice; empty for the last slice.
        items: A key, and each of its connections with its hash and the version of its record.
    """

    def decode(reply: Any) -> Compared:
        missing, more, waiting = reply
        return Compared(_names(missing), bool(more), _names(waiting))

    request = ("compare", tag, terms.node, after, up_to, items)
    return Operation(request, decode, cost=SLICE_COST)


def enter(tag: str, terms: Terms, presence: Presence, *, claims: bool) -> Operation[Entered]:
    """Add a connection to a room; with ``claims``, the node has no other connection there."""

    def decode(reply: Any) -> Entered:
        joined, waits, place, generation, recovery = reply
        return Entered(Joined(joined), bool(waits), int(place), generation.decode(), int(recovery))

    joining, leaving = presence.join_message, presence.leave_message
    messages = (
        None if joining is None or presence.announced else raw(joining.encode()),
        None if leaving is None else raw(leaving.encode()),
        presence.announced,
    )
    details = (presence.key, presence.connection, presence.hash, messages, presence.place, claims)
    request = ("enter", tag, terms.node, terms.lease, terms.recovery, *details, record_of(presence))
    return Operation(request, decode, needs_lease=True)


def record_of(presence: Presence) -> tuple[int, msgspec.Raw | None] | None:
    """Return the version and the record of a connection; ``None`` if it has never had one."""
    return (presence.version, raw(presence.record)) if presence.version else None


def update(
    tag: str, terms: Terms, presence: Presence, message: bytes | None
) -> Operation[Position | None]:
    """Store the record of a connection, and publish a message with it; returns its position."""

    def decode(reply: Any) -> Position | None:
        return _position(reply) if reply else None

    details = (presence.key, presence.connection, record_of(presence), raw(message))
    return Operation(("update", tag, terms.node, *details), decode, needs_lease=True)


def announce(tag: str, key: str) -> Operation[bool]:
    """Announce a user after the room's recovery; returns whether it has to wait longer."""
    return Operation(("announce", tag, key), bool, may_wait=True)


def leave(
    tag: str, terms: Terms, presence: Presence, *, grace: int, is_last: bool
) -> Operation[Departure]:
    """Remove a connection; with ``is_last``, the node has no other connection in the room."""
    details = (presence.key, presence.connection, presence.hash, grace, is_last)
    request = ("leave", tag, terms.node, *details)
    return Operation(request, Departure, needs_lease=True, may_wait=grace > 0)


def expire(tag: str, terms: Terms, key: str, *, is_last: bool) -> Operation[bool]:
    """Remove a user whose grace period is over; returns whether it still runs."""
    request = ("expire", tag, terms.node, key, terms.grace, is_last)
    return Operation(request, bool, needs_lease=True, may_wait=True)


def release_lease(tag: str, terms: Terms) -> Operation[None]:
    """Release the node's lease in a room unless it has entries there."""
    return Operation(("expire", tag, terms.node, "", terms.grace, True), _ignored)


def stop_node(tag: str, terms: Terms, ms: int) -> Operation[None]:
    """Let the node's lease in a room end after a time, and inform the other nodes."""
    return Operation(("stop_node", tag, terms.node, ms), _ignored)


def present(tag: str, key: str) -> Operation[bool]:
    """Return whether a user is in a room."""
    return Operation(("present", tag, key), bool)


def page(
    tag: str, terms: Terms, after: int | str | None, limit: int, *, in_doubt: bool
) -> Operation[Page | None]:
    """Read a page of the users in a room; ``None`` while expired nodes have to be removed first.

    The reply raises LookupError if ``after`` is a user that is not in the room.
    """

    def decode(reply: Any) -> Page | None:
        if reply == b"expire":
            return None
        if reply == b"unknown":
            raise LookupError(after)
        total, epoch, offset, flat, more, found, recovery = reply
        users = [
            (int(place), key.decode()[1:]) for key, place in zip(flat[::2], flat[1::2], strict=True)
        ]
        records = {user: decode_records(each) for (_, user), each in zip(users, found) if each}
        position = Position(epoch.decode(), int(offset))
        return Page(total, position, users, bool(more), records, int(recovery))

    key = f"u{after}" if isinstance(after, str) else after
    request = ("page", tag, terms.node, terms.period, in_doubt, key, limit)
    return Operation(request, decode, cost=1 + limit // USERS_PER_COST)


def beat(terms: Terms, *, was_listed: bool = False) -> Operation[Beat]:
    """Renew the node's place in the list of nodes; ``was_listed`` if it had one."""

    def decode(reply: Any) -> Beat:
        rooms, commands, protocol, nodes = reply
        return Beat(rooms, commands, protocol.decode(), _names(nodes))

    return Operation(("beat", NODES, terms.node, terms.lease, was_listed), decode)


def remove_node(node: str) -> Operation[None]:
    """Remove a node from the list."""
    return Operation(("remove_node", NODES, node), _ignored)


def add_rooms(node: str, rooms: Sequence[str]) -> Operation[None]:
    """Add rooms to the list of the rooms where a node has members."""
    cost = 1 + len(rooms) // ROOMS_PER_COST
    return Operation(("add_rooms", NODES, node, rooms), _ignored, may_wait=True, cost=cost)


def remove_rooms(node: str, rooms: Sequence[str]) -> Operation[None]:
    """Remove rooms from this list."""
    return Operation(("remove_rooms", NODES, node, rooms), _ignored, may_wait=True)


def clear_rooms(node: str) -> Operation[None]:
    """Empty this list."""
    return Operation(("clear_rooms", NODES, node), _ignored)


def rooms_of(node: str, cursor: str) -> Operation[tuple[str, list[str]]]:
    """Read a part of this list; returns the cursor of the next part, ``0`` after the last one."""

    def decode(reply: Any) -> tuple[str, list[str]]:
        return _text(reply[0]), [name.decode() for name in reply[1]]

    return Operation(("rooms_of", NODES, node, cursor), decode)


def live_nodes() -> Operation[list[str]]:
    """Return the live nodes."""
    return Operation(("live_nodes", NODES), _names)


def count_user(
    tag: str, terms: Terms, held: int, wanted: int, bound: int, dead: Sequence[str]
) -> Operation[Counted]:
    """Set the number of the node's connections of a user.

    Args:
        tag: The hash tag of the user.
        terms: The node.
        held: The number that is never refused.
        wanted: The number including those that are refused above the bound.
        bound: The maximum number of the user's connections to all nodes.
        dead: Nodes that are not live: their entries are removed if they are older than a lease.
    """

    def decode(reply: Any) -> Counted:
        return Counted(reply[0], _names(reply[1]))

    request = ("count_user", tag, terms.node, held, wanted, bound, terms.lease, dead)
    return Operation(request, decode, may_wait=wanted == held)


def acquire(
    name: str, holder: str, ms: int, *, is_unheld: bool, schedules: Sequence[str]
) -> Operation[tuple[int, dict[str, str]]]:
    """Acquire the lease of a worker; returns its token, or the negated rest of the lease, and the schedules.

    Args:
        name: The name of the lease.
        holder: The name of the node.
        ms: The duration.
        is_unheld: Whether the node does not hold it, as far as it knows.
        schedules: The schedules that the node knows, names and values in turn.
    """

    def decode(reply: Any) -> tuple[int, dict[str, str]]:
        parts = iter(_names(reply[1]))
        return int(reply[0]), dict(zip(parts, parts, strict=True))

    return Operation(("acquire", NODES, name, holder, ms, is_unheld, schedules), decode)


def renew(lease: Lease, holder: str, ms: int, schedules: Sequence[str]) -> Operation[bool]:
    """Extend the lease of a worker; returns whether it is still held."""
    return Operation(("renew", NODES, lease.name, holder, lease.token, ms, schedules), bool)


def release(lease: Lease, holder: str) -> Operation[None]:
    """Release the lease of a worker."""
    return Operation(("release", NODES, lease.name, holder, lease.token), _ignored)


def tick(
    lease: Lease, holder: str, schedule: str, interval: int, known: int | None
) -> Operation[Tick | None]:
    """Take the next tick of a schedule if it is due; ``None`` if the lease is not held.

    Args:
        lease: The lease.
        holder: The name of the node.
        schedule: The name of the schedule.
        interval: Its interval.
        known: The time of the last tick, as far as the node knows it.
    """

    def decode(reply: Any) -> Tick | None:
        return Tick(int(reply[0]), int(reply[1]), bool(reply[2])) if reply else None

    details = (lease.name, holder, lease.token, schedule, interval, known)
    return Operation(("tick", NODES, *details), decode)


def command(data: bytes, node: str | None) -> Operation[tuple[str, list[str]]]:
    """Send a command of a node, or of a publisher, to all nodes and keep it; returns its id, and the live nodes.

    An empty name stands for nodes that may be missing from the list.
    """

    def decode(reply: Any) -> tuple[str, list[str]]:
        return _text(reply[0]), _names(reply[1])

    return Operation(("command", NODES, raw(data), node), decode)


def confirm(node: str, identifier: str) -> Operation[None]:
    """Record that a node has executed a command."""
    return Operation(("confirm", NODES, node, identifier), _ignored)


def unconfirmed(identifier: str, node: str | None) -> Operation[list[str]]:
    """Return the live nodes that have not executed a command; see :func:`command`."""
    return Operation(("unconfirmed", NODES, identifier, node), _names)


def sync_commands(known: Mapping[str, bytes]) -> Operation[tuple[list[MissedCommand], float]]:
    """Store the commands that Redis has lost; returns those that the node does not know.

    The second value is how many seconds ago the last command was sent that is not kept any more because there
    were too many.
    """

    def decode(reply: Any) -> tuple[list[MissedCommand], float]:
        flat, dropped_ms, now_ms = reply
        missed = []
        for identifier, data in zip(map(_text, flat[::2]), flat[1::2], strict=True):
            age_ms = max(0, int(now_ms) - int(identifier.partition("-")[0]))
            missed.append(MissedCommand(identifier, data, age_ms / 1000))
        return missed, dropped_ms / 1000 if dropped_ms >= 0 else math.inf

    encoded = {identifier: raw(data) for identifier, data in known.items()}
    return Operation(("sync_commands", NODES, encoded), decode)
