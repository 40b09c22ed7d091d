"""The operations on the messages of a room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....errors import LeaseLost
from ....history import History, Position
from ...lease import Lease
from ...once import OnceRun
from ..script import MAX_INTEGER, raw
from .once import place_of
from .replies import Operation, Terms, decode_nothing, decode_position


def publish(
    tag: str,
    data: bytes,
    *,
    ephemeral: bool,
    node: str | None = None,
    lease: Lease | None = None,
    retracts: Sequence[str] = (),
    run: OnceRun | None = None,
) -> Operation[Position]:
    """Publish to a room, and remove those at the positions ``retracts`` from its history.

    ``node`` has members there. ``lease`` is that of the publishing worker: the reply raises LeaseLost if a newer one has
    published there. ``run`` is the execution of a request whose effect this is; not on a cluster.
    """
    removed = [
        (each.epoch, each.offset)
        for each in map(Position.parse, retracts)
        if each and each.offset <= MAX_INTEGER
    ]
    worker = (None, None) if lease is None else (lease.name, lease.token)
    request: tuple[Any, ...] = ("publish", tag, raw(data), ephemeral, node, *worker)
    if removed or run is not None:
        request = (*request, None, removed or None, run and place_of(run)[:4])
    if lease is None:
        return Operation(request, decode_position, needs_lease=node is not None)

    def decode(reply: Any) -> Position:
        if reply == b"replaced":
            lease.revoke()
            raise LeaseLost(f"another worker has taken over the lease of {lease.name!r}")
        return decode_position(reply)

    return Operation(request, decode, needs_lease=node is not None)


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


def past(tag: str, before: Position | None, count: int) -> Operation[Sequence[Any]]:
    """Read the last publications before a position, or of all; see ``fetched.Fetched``."""
    end = (None, None) if before is None else (before.epoch, min(before.offset, MAX_INTEGER))
    return Operation(("past", tag, *end, count), tuple)


def release_room(tag: str) -> Operation[None]:
    """Delete a room without subscribers, or let its history expire."""
    return Operation(("release_room", tag), decode_nothing, may_wait=True)
