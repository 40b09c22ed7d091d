"""The members of a room that are written through a ring, and those that take their transports."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

from .ring import UNKNOWN, Ring

if TYPE_CHECKING:
    from ..publication import Publication

# The modules of the transports whose descriptors take the plain data.
TRANSPORTS = {"asyncio.selector_events", "uvloop.loop"}


class Member(Protocol):
    """The outbox of a member."""

    transport: asyncio.Transport
    write_now: Any
    on_failure: Any

    def put(self, messages: list[Publication], data: bytes, excluded: Collection[Any] = ()) -> None:
        """Write messages, whose frames are joined in ``data``, or queue them."""
        ...


class RingMembers:
    """The members of a room, of which those on plain sockets are written through a ring.

    A member with TLS, with unsent data, or whose transport closes, is written through its transport. So is what a
    socket has not taken: the transport buffers it, and pauses the outbox as without a ring.

    Args:
        ring: The ring.
        outboxes: The outboxes of all members.
    """

    __slots__ = (
        "changes",
        "closing",
        "descriptors",
        "entries",
        "outboxes",
        "ring",
        "sizes",
        "waiting",
    )

    def __init__(self, ring: Ring, outboxes: tuple[Member, ...]) -> None:
        self.ring = ring
        self.outboxes = outboxes
        transports = [outbox.transport for outbox in outboxes]
        self.descriptors = [descriptor_of(transport) for transport in transports]
        self.entries = ring.make_entries(self.descriptors)
        self.sizes = [transport.get_write_buffer_size for transport in transports]
        self.closing = [transport.is_closing for transport in transports]
        self.changes = -1
        self.waiting: list[int] = []
        """The indices of the members that accept no data now, or never take it from a ring."""

    def put(
        self, messages: list[Publication], data: bytes, excluded: Collection[Any], changes: int
    ) -> None:
        """Write messages whose frames are joined in ``data`` to all members that are not excluded.

        Args:
            messages: The messages.
            data: Their frames.
            excluded: Outboxes that do not receive them.
            changes: The count of the write batch, see :attr:`.write_batch.WriteBatch.changes`.
        """
        outboxes = self.outboxes
        if changes != self.changes:
            pairs = zip(outboxes, self.descriptors, strict=True)
            self.waiting = [
                i for i, (each, fd) in enumerate(pairs) if each.write_now is None or fd < 0
            ]
            self.changes = changes
        by_transport = self._find_busy()
        if self.waiting:
            by_transport = sorted({*by_transport, *self.waiting})
        entries = self.entries
        if by_transport or excluded:
            among = set(excluded)
            omitted = [index for index, outbox in enumerate(outboxes) if outbox in among]
            entries = self.ring.without(entries, sorted({*by_transport, *omitted}))
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

    def _find_busy(self) -> list[int]:
        """Return the members with unsent data, or with a transport that closes."""
        # SECURITY: another connection may get the descriptor of a transport that closes, never that of another one.
        # PERF: nearly always there are none, and two plain loops take the least.
        sizes = [size() for size in self.sizes]
        closing = [is_closing() for is_closing in self.closing]
        if any(sizes) or any(closing):
            states = enumerate(zip(sizes, closing, strict=True))
            return [index for index, (size, is_closing) in states if size or is_closing]
        return []


def descriptor_of(transport: asyncio.Transport) -> int:
    """Return the descriptor of an open transport of asyncio or uvloop without TLS; -1 for any other."""
    if transport.is_closing() or type(transport).__module__ not in TRANSPORTS:
        return -1
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    descriptor: int = transport.get_extra_info("socket").fileno()
    return descriptor
