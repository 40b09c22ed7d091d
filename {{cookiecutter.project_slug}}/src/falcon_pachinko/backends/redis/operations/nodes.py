"""The operations on all nodes: their list, commands, the leases of workers, the connections of users."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...lease import Lease
from ..script import NODES, raw
from .replies import (
    Beat,
    Counted,
    MissedCommand,
    Operation,
    Terms,
    Tick,
    decode_names,
    decode_nothing,
    decode_text,
)

# An operation with so many names of rooms takes as long as a join.
ROOMS_PER_COST = 30


def send(tag: str, data: bytes) -> Operation[int]:
    """Publish to a channel that has no room; returns the number of receivers."""
    return Operation(("send", tag, raw(data)), int)


def trim_histories() -> Operation[None]:
    """Forget expired histories."""
    return Operation(("trim_histories", NODES), decode_nothing)


def beat(terms: Terms, *, was_listed: bool = False) -> Operation[Beat]:
    """Renew the node's place in the list of nodes; ``was_listed`` if it had one."""

    def decode(reply: Any) -> Beat:
        rooms, commands, protocol, nodes, restrictions = reply
        names = (decode_text(protocol), decode_names(nodes), decode_text(restrictions))
        return Beat(rooms, commands, *names)

    return Operation(("beat", NODES, terms.node, terms.lease, was_listed), decode)


def remove_node(node: str) -> Operation[None]:
    """Remove a node from the list."""
    return Operation(("remove_node", NODES, node), decode_nothing)


def add_rooms(node: str, rooms: Sequence[str]) -> Operation[None]:
    """Add rooms to the list of the rooms where a node has members."""
    cost = 1 + len(rooms) // ROOMS_PER_COST
    return Operation(("add_rooms", NODES, node, rooms), decode_nothing, may_wait=True, cost=cost)


def remove_rooms(node: str, rooms: Sequence[str]) -> Operation[None]:
    """Remove rooms from this list."""
    return Operation(("remove_rooms", NODES, node, rooms), decode_nothing, may_wait=True)


def clear_rooms(node: str) -> Operation[None]:
    """Empty this list."""
    return Operation(("clear_rooms", NODES, node), decode_nothing)


def rooms_of(node: str, cursor: str) -> Operation[tuple[str, list[str]]]:
    """Read a part of this list; returns the cursor of the next part, ``0`` after the last one."""

    def decode(reply: Any) -> tuple[str, list[str]]:
        return decode_text(reply[0]), [name.decode() for name in reply[1]]

    return Operation(("rooms_of", NODES, node, cursor), decode)


def live_nodes() -> Operation[list[str]]:
    """Return the live nodes."""
    return Operation(("live_nodes", NODES), decode_names)


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
        return Counted(reply[0], decode_names(reply[1]))

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
        parts = iter(decode_names(reply[1]))
        return int(reply[0]), dict(zip(parts, parts, strict=True))

    return Operation(("acquire", NODES, name, holder, ms, is_unheld, schedules), decode)


def renew(lease: Lease, holder: str, ms: int, schedules: Sequence[str]) -> Operation[bool]:
    """Extend the lease of a worker; returns whether it is still held."""
    return Operation(("renew", NODES, lease.name, holder, lease.token, ms, schedules), bool)


def release(lease: Lease, holder: str) -> Operation[None]:
    """Release the lease of a worker."""
    return Operation(("release", NODES, lease.name, holder, lease.token), decode_nothing)


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
        return decode_text(reply[0]), decode_names(reply[1])

    return Operation(("command", NODES, raw(data), node), decode)


def confirm(node: str, identifier: str) -> Operation[None]:
    """Record that a node has executed a command."""
    return Operation(("confirm", NODES, node, identifier), decode_nothing)


def unconfirmed(identifier: str, node: str | None) -> Operation[list[str]]:
    """Return the live nodes that have not executed a command; see :func:`command`."""
    return Operation(("unconfirmed", NODES, identifier, node), decode_names)


def sync_commands(known: Mapping[str, bytes]) -> Operation[tuple[list[MissedCommand], float]]:
    """Store the commands that Redis has lost; returns those that the node does not know.

    The second value is how many seconds ago the last command was sent that is not kept any more because there
    were too many.
    """

    def decode(reply: Any) -> tuple[list[MissedCommand], float]:
        flat, dropped_ms, now_ms = reply
        missed = []
        for identifier, data in zip(map(decode_text, flat[::2]), flat[1::2], strict=True):
            age_ms = max(0, int(now_ms) - int(identifier.partition("-")[0]))
            missed.append(MissedCommand(identifier, data, age_ms / 1000))
        return missed, dropped_ms / 1000 if dropped_ms >= 0 else math.inf

    encoded = {identifier: raw(data) for identifier, data in known.items()}
    return Operation(("sync_commands", NODES, encoded), decode)
