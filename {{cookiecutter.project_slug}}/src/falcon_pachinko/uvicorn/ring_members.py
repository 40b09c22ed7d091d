"""The members of a room that are written through a ring, and those that take their transports."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any, Protocol

from ..publication import Publication
from .outbox import WRITE_NOW, PushOutbox
from .ring import UNKNOWN, Ring
from .write_batch import WriteBatch


class Member(Protocol):
    """The outbox of a member."""

    transport: asyncio.Transport
    write_now: Any
    on_failure: Any

    def join_ring(self) -> int:
        """Prepare for writes by a ring; return the descriptor, or -1 if a ring must not write to it."""
        ...

    def put(self, messages: list[Publication], data: bytes, excluded: Collection[Any] = ()) -> None:
        """Write messages, whose frames are joined in ``data``, or queue them."""
        ...


class RingMembers:
    """The members of a room, of which those on plain sockets are written through a ring.

    A member with TLS, with unsent data, or whose transport closes, is written through its transport. So is what a
    socket has not taken: the transport buffers it, and pauses the outbox as without a ring.

    Args:
        ring: The ring.
        batch: The write batch of the event loop.
        outboxes: The outboxes of all members.
    """

    __slots__ = (
        "batch",
        "changes",
        "descriptors",
        "entries",
        "indices",
        "outboxes",
        "ring",
        "waiting",
    )

    def __init__(self, ring: Ring, batch: WriteBatch, outboxes: Sequence[Member]) -> None:
        self.ring = ring
        self.batch = batch
        self.outboxes = outboxes
        self.descriptors = [outbox.join_ring() for outbox in outboxes]
        self.entries = ring.make_entries(self.descriptors)
        self.indices: dict[object, int] = {}
        """The index of each member's transport, made when it is needed."""
        self.changes = -1
        self.waiting: list[int] = []
        """The indices of the members that accept no data now, or never take it from a ring."""

    def put(self, messages: list[Publication], data: bytes, excluded: Collection[Any]) -> None:
        """Write messages whose frames are joined in ``data`` to all members that are not excluded.

        Args:
            messages: The messages.
            data: Their frames.
            excluded: Outboxes that do not receive them.
        """
        outboxes = self.outboxes
        if self.changes != self.batch.changes:
            self.waiting = self._find_waiting()
            self.changes = self.batch.changes
        by_transport = self.waiting
        if self.batch.unsent and (unsent := self._find_unsent()):
            by_transport = sorted({*by_transport, *unsent})
        omitted = by_transport
        if excluded:
            transports = [each.transport for each in excluded if isinstance(each, PushOutbox)]
            omitted = sorted({*omitted, *self._indices_of(transports)})
        entries = self.ring.without(self.entries, omitted) if omitted else self.entries
        failures: list[tuple[Member, Exception]] = []
        # NOTE: the rest of a frame precedes all that a callback may write.
        for index, sent in self.ring.send(entries, data):
            outbox = outboxes[index]
            try:
                if sent == UNKNOWN:
                    outbox.transport.abort()
                else:
                    outbox.transport.write(data[sent:])
            except Exception as error:
                failures.append((outbox, error))
        for index in by_transport:
            outboxes[index].put(messages, data, excluded)
        for outbox, problem in failures:
            outbox.on_failure(problem)

    def _find_waiting(self) -> list[int]:
        if min(self.descriptors) >= 0 and None not in map(WRITE_NOW, self.outboxes):
            return []
        pairs = zip(self.outboxes, self.descriptors, strict=True)
        return [i for i, (outbox, fd) in enumerate(pairs) if outbox.write_now is None or fd < 0]

    def _find_unsent(self) -> list[int]:
        """Return the members whose transports have unsent data, or close, and end the notes of others."""
        # SECURITY: another connection may get the descriptor of a transport that closes, never that of another one.
        unsent = self.batch.unsent
        # NOTE: those of other rooms are checked as well, or the notes would grow, but no more than this room has
        #   members: clients that do not read must not slow down every room. The oldest notes are checked first.
        for transport in tuple(islice(unsent, len(self.outboxes))):
            del unsent[transport]
            if not transport.is_passable():
                unsent[transport] = None
        return self._indices_of(unsent.keys()) if unsent else []

    def _indices_of(self, transports: Collection[object]) -> list[int]:
        """Return the indices of the members with these transports; others are ignored."""
        if not self.indices:
            numbered = enumerate(self.outboxes)
            self.indices = {outbox.transport: index for index, outbox in numbered}
        return [self.indices[transport] for transport in self.indices.keys() & transports]
