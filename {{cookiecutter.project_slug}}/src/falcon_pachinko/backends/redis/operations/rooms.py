"""The operations on the presence in a room: users, the lists and leases of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ....history import Position
from ...presence import Presence
from ..script import MAX_INTEGER, raw
from .replies import (
    Announced,
    Claimed,
    Compared,
    Departure,
    Entered,
    Joined,
    Operation,
    Page,
    Renewal,
    Renewed,
    Terms,
    decode_names,
    decode_nothing,
    decode_position,
    decode_records,
)

# The time of an operation compared with a join: of a slice of a node's list, and of the users of a page.
SLICE_COST = 32
USERS_PER_COST = 20


def renew_room(
    tag: str,
    terms: Terms,
    *,
    generation: str,
    digest: int | None,
    known: Position | None,
    extend: bool,
) -> Operation[Renewed]:
    """Renew the node's lease in a room; with ``digest`` ``None``, only read the room's position.

    Args:
        tag: The hash tag of the room.
        terms: The node.
        generation: The generation of the presence that the node knows.
        digest: The digest of the node's list.
        known: The position of the last publication delivered on the node.
        extend: Whether to extend the life of the keys.
    """

    def decode(reply: Any) -> Renewed:
        status, epoch, offset, recovery, version = reply
        position = Position(epoch.decode(), int(offset))
        known_version = None if node is None else version.decode()
        return Renewed(Renewal(status), position, int(recovery), known_version)

    node = None if digest is None else terms.node
    epoch, offset = (None, None) if known is None else (known.epoch, known.offset)
    details = (terms.times, generation, str(digest), epoch, offset, extend)
    return Operation(("renew_room", tag, node, *details), decode)


def expire_nodes(tag: str, terms: Terms, *, node: str | None) -> Operation[bool]:
    """Remove a slice of the users of expired nodes; returns whether others follow.

    Args:
        tag: The hash tag of the room.
        terms: The durations.
        node: The caller's name if it has something in the room: if its lease has expired, others may have been
            unable to renew theirs, too. A lease of a node that has left the room only ends.
    """
    request = ("expire_nodes", tag, node, terms.times)
    return Operation(request, bool, cost=SLICE_COST)


def claim(tag: str, terms: Terms, *, known: str) -> Operation[Claimed]:
    """Acquire the node's lease in a room before the list of its connections is compared."""

    def decode(reply: Any) -> Claimed:
        generation, kept, is_lost = reply
        return Claimed(generation.decode(), bool(kept), bool(is_lost))

    details = (terms.lease, terms.period, known, terms.recovery)
    return Operation(("claim", tag, terms.node, *details), decode)


def end_list(tag: str, terms: Terms) -> Operation[None]:
    """Record that the list of the node is complete."""
    return Operation(("end_list", tag, terms.node), decode_nothing)


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
        return Compared(decode_names(missing), bool(more), decode_names(waiting))

    request = ("compare", tag, terms.node, after, up_to, items)
    return Operation(request, decode, cost=SLICE_COST)


def enter(tag: str, terms: Terms, presence: Presence, *, claims: bool) -> Operation[Entered]:
    """Add a connection to a room; with ``claims``, the node has no other connection there."""

    def decode(reply: Any) -> Entered:
        joined, waits, place, generation, recovery, version = reply
        return Entered(
            Joined(joined),
            bool(waits),
            int(place),
            generation.decode(),
            int(recovery),
            version.decode(),
        )

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
        return decode_position(reply) if reply else None

    details = (presence.key, presence.connection, record_of(presence), raw(message))
    return Operation(("update", tag, terms.node, *details), decode, needs_lease=True)


def announce(tag: str, key: str) -> Operation[Announced]:
    """Announce a user after the room's recovery."""
    return Operation(("announce", tag, key), Announced, may_wait=True)


def leave(
    tag: str,
    terms: Terms,
    presence: Presence,
    *,
    grace: int,
    is_last: bool,
    is_repeated: bool = False,
) -> Operation[Departure]:
    """Remove a connection.

    Args:
        tag: The hash tag of the room.
        terms: The node.
        presence: The connection.
        grace: The milliseconds of the grace period; 0 for none.
        is_last: Whether the node has no other connection in the room.
        is_repeated: Whether the user may have left with an earlier attempt. After a loss of changes nobody is
            informed then.
    """
    details = (presence.key, presence.connection, presence.hash, grace, is_last, is_repeated)
    request = ("leave", tag, terms.node, *details)
    return Operation(request, Departure, needs_lease=True, may_wait=grace > 0)


def expire(
    tag: str, terms: Terms, key: str, *, is_last: bool, is_repeated: bool = False
) -> Operation[bool]:
    """Remove a user whose grace period is over; returns whether it still runs. Otherwise like :func:`leave`."""
    request = ("expire", tag, terms.node, key, terms.grace, is_last, is_repeated)
    return Operation(request, bool, needs_lease=True, may_wait=True)


def release_lease(tag: str, terms: Terms) -> Operation[None]:
    """Release the node's lease in a room unless it has entries there."""
    return Operation(("expire", tag, terms.node, "", terms.grace, True), decode_nothing)


def stop_node(tag: str, terms: Terms, ms: int) -> Operation[None]:
    """Let the node's lease in a room end after a time, and inform the other nodes."""
    return Operation(("stop_node", tag, terms.node, ms), decode_nothing)


def present(tag: str, key: str) -> Operation[bool]:
    """Return whether a user is in a room."""
    return Operation(("present", tag, key), bool)


def page(
    tag: str,
    terms: Terms,
    after: int | str | None,
    limit: int,
    *,
    node: str | None,
) -> Operation[Page | None]:
    """Read a page of the users in a room; ``None`` while expired nodes have to be removed first.

    ``node`` is that of :func:`expire_nodes`. The reply raises LookupError if ``after`` is a user that is not in the room.
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
        records = {
            user: decode_records(each)
            for (_, user), each in zip(users, found, strict=False)
            if each
        }
        position = Position(epoch.decode(), int(offset))
        return Page(total, position, users, bool(more), records, int(recovery))

    key = f"u{after}" if isinstance(after, str) else after
    if isinstance(key, int):
        key = max(-MAX_INTEGER, min(key, MAX_INTEGER))
    request = ("page", tag, node, terms.times, key, limit)
    return Operation(request, decode, cost=1 + limit // USERS_PER_COST)
