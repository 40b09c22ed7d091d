"""The outboxes of an event loop with a ring, and their groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import cast

from ..connection.outbox import OnFailure, Outbox, OutboxGroup, Send
from ..publication import Publication
from .noting_transport import NotingTransport, descriptor_of
from .outbox import PushGroup, PushOutbox
from .ring_members import RingMembers
from .write_batch import WRITE_BATCHES


class RingOutbox(PushOutbox):
    """An outbox whose client a ring may write to, past the transport.

    Everything else that writes to the transport or closes it has to use :attr:`noting`, which is also ``transport``.

    Attributes:
        noting: The transport that notes what a ring must not overtake.
        descriptor: The descriptor of the client's socket, -1 if a ring must not write to it, ``None`` before
            :meth:`join_ring`.
    """

    __slots__ = ("descriptor", "noting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        send: Send,
        on_failure: OnFailure,
    ) -> None:
        self.noting = NotingTransport(transport, WRITE_BATCHES.of(loop).unsent)
        self.descriptor: int | None = None
        super().__init__(loop, cast(asyncio.Transport, self.noting), send, on_failure)
        # PERF: while no ring writes to the client, nothing has to be noted.
        self.write_now = transport.write

    @classmethod
    def group(cls, outboxes: Iterable[PushOutbox]) -> OutboxGroup:
        """Make a group of outboxes of this class."""
        return RingGroup(tuple(cast(Iterable[RingOutbox], outboxes)))

    def join_ring(self) -> int:
        """Prepare for writes by a ring; return the descriptor."""
        if self.descriptor is None:
            self.descriptor = descriptor_of(self.noting.plain)
            if self.descriptor >= 0 and self.write_now is not None:
                self._set_write_now(self.transport.write)
        return self.descriptor

    def _set_write_now(self, write_now: Callable[[bytes], None] | None) -> None:
        super()._set_write_now(write_now)
        self.noting.note()

    def on_connection_lost(self) -> None:
        """Drop pending messages and wake everything that waits for the client."""
        super().on_connection_lost()
        self.noting.forget()


class RingGroup(PushGroup):
    """Clients that receive the same messages, through the ring where that is faster."""

    __slots__ = ("members",)

    outboxes: tuple[RingOutbox, ...]

    def __init__(self, outboxes: tuple[RingOutbox, ...]) -> None:
        super().__init__(outboxes)
        self.members: RingMembers | None = None

    def put(
        self, messages: list[Publication], data: bytes, excluded: Collection[Outbox] = ()
    ) -> None:
        """Write messages to all outboxes that are not excluded."""
        ring = self.batch.ring
        if ring is None or not ring.takes(len(self.outboxes), data):
            super().put(messages, data, excluded)
            return
        if self.members is None or self.members.ring is not ring:
            self.members = RingMembers(ring, self.batch, self.outboxes)
        self.members.put(messages, data, excluded)
