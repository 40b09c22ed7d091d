"""The frames that are written at the end of an iteration of the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..publication import Publication
from ..support.loop_local import PerLoop

if TYPE_CHECKING:
    from .noting_transport import NotingTransport
    from .ring import Ring

# PERF: data of this size gains nothing by being joined with more.
MAX_JOINED_BYTES = 65_536


class Target(Protocol):
    """One client or a group of clients."""

    @property
    def outboxes(self) -> Sequence[Target]:
        """The outboxes of the clients."""
        ...

    def put(self, messages: list[Publication], data: bytes, excluded: Collection[Any] = ()) -> None:
        """Write messages, whose frames are joined in ``data``, or queue them.

        Args:
            messages: The messages.
            data: Their frames, joined.
            excluded: Outboxes that do not receive them.
        """
        ...


BatchItem = tuple[Target, Publication, Collection[Any]]
Write = tuple[Target, list[Publication], Collection[Any]]


class WriteBatch:
    """The messages to be written at the end of this iteration of the event loop.

    A single message is not delayed: the flush is the loop's next callback. Of several messages to the
    same clients, all frames are joined once, whatever lies between them, and leave in one write per client.

    Attributes:
        changes: Counts how often an outbox has started or stopped writing to its transport directly.
        ring: What writes to large rooms; ``None`` for the transports.
        unsent: The transports that a ring must not overtake, because they may have unsent data or close; those that
            are noted first come first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ring: Ring | None = None
        self.items: list[BatchItem] = []
        self.size_bytes = 0
        self.changes = 0
        # PERF: the oldest entry of a dict lies behind the places of all that were deleted since it last grew.
        self.unsent: OrderedDict[NotingTransport, None] = OrderedDict()

    def add(self, target: Target, publication: Publication, excluded: Collection[Any] = ()) -> None:
        """Write a message at the end of this iteration.

        Args:
            target: The recipients.
            publication: The message; not an event.
            excluded: Outboxes of the target that do not receive it.
        """
        if not self.items:
            self.loop.call_soon(self.flush)
        self.items.append((target, publication, excluded))
        self.size_bytes += len(publication.frame or publication.make_frame())
        if self.size_bytes > MAX_JOINED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write all messages now."""
        if not self.items:
            return
        items, self.items = self.items, []
        self.size_bytes = 0
        if len(items) == 1 or len({target for target, _, _ in items}) == len(items):
            # PERF: a single message, or one for each of several targets, needs no grouping.
            for target, publication, excluded in items:
                frame = publication.frame or publication.make_frame()
                target.put([publication], frame, excluded)
        else:
            write_joined(items)


def write_joined(items: list[BatchItem]) -> None:
    """Write to each outbox its messages at once; outboxes with the same messages share the joined bytes."""
    messages_of: dict[Target, list[Publication]] = {}
    for target, publication, _ in items:
        messages_of.setdefault(target, []).append(publication)
    apart = find_apart(items, list(messages_of))
    apart_of = {target: apart.intersection(target.outboxes) for target in messages_of}
    messages_apart: dict[Target, list[Publication]] = {}
    for target, publication, excluded in items:
        for outbox in apart_of[target]:
            if outbox not in excluded:
                messages_apart.setdefault(outbox, []).append(publication)
    writes: dict[tuple[int, ...], list[Write]] = {}
    for target, messages in messages_of.items():
        if len(apart_of[target]) < len(target.outboxes):
            write = (target, messages, apart_of[target])
            writes.setdefault(tuple(map(id, messages)), []).append(write)
    for outbox, messages in messages_apart.items():
        writes.setdefault(tuple(map(id, messages)), []).append((outbox, messages, ()))
    # NOTE: the bytes of one combination at a time: every sender may have a combination of its own.
    for same in writes.values():
        data = join_frames(same[0][1])
        for target, messages, excluded in same:
            target.put(messages, data, excluded)


def find_apart(items: list[BatchItem], targets: list[Target]) -> set[Target]:
    """Return the outboxes that do not receive the same messages as all others of a target.

    They are excluded from a message, or belong to several targets.
    """
    apart: set[Target] = set()
    for _, _, excluded in items:
        apart.update(excluded)
    # PERF: the outboxes of the largest target are looked up, and not inserted.
    *smaller, largest = sorted(targets, key=lambda target: len(target.outboxes))
    seen: set[Target] = set()
    for target in smaller:
        apart |= seen.intersection(target.outboxes)
        seen.update(target.outboxes)
    return apart | seen.intersection(largest.outboxes)


def join_frames(messages: list[Publication]) -> bytes:
    """Join the frames of messages."""
    if len(messages) == 1:
        return messages[0].frame or messages[0].make_frame()
    return b"".join([publication.frame or publication.make_frame() for publication in messages])


WRITE_BATCHES = PerLoop(WriteBatch)
