"""The frames that are written at the end of an iteration of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Protocol

from ..publication import Publication
from ..support.loop_local import PerLoop

# PERF: data of this size gains nothing by being joined with more.
MAX_JOINED_BYTES = 65_536


class Target(Protocol):
    """One client or a group of clients."""

    @property
    def outboxes(self) -> Sequence[Target]:
        """The outboxes of the clients."""
        ...

    def put(self, messages: list[Publication], data: bytes) -> None:
        """Write messages, whose frames are joined in ``data``, or queue them."""
        ...


BatchItem = tuple[Target, Publication, Collection[object]]


class WriteBatch:
    """The messages to be written at the end of this iteration of the event loop.

    A single message is not delayed: the flush is the loop's next callback. Of several messages to the
    same clients, all frames are joined once and leave in one write per client.

    Attributes:
        changes: Counts how often an outbox has started or stopped writing to its transport directly.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.items: list[BatchItem] = []
        self.size_bytes = 0
        self.changes = 0

    def add(
        self, target: Target, publication: Publication, excluded: Collection[object] = ()
    ) -> None:
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
        if len(items) == 1 and not items[0][2]:
            # PERF: a single message is the common case, and needs no grouping.
            target, publication, _ = items[0]
            target.put([publication], publication.frame or publication.make_frame())
            return
        runs = [(target, list(run)) for target, run in groupby(items, key=itemgetter(0))]
        if len(runs) > len({id(target) for target, _ in runs}):
            write_per_outbox(items)  # a target that occurs again would get more than one write
            return
        for target, run in runs:
            if any(excluded for _, _, excluded in run):
                write_per_outbox(run)
            else:
                messages = [publication for _, publication, _ in run]
                target.put(messages, join_frames(messages))


def write_per_outbox(items: list[BatchItem]) -> None:
    """Write to each outbox the messages that it receives, all at once."""
    messages_of: dict[Target, list[Publication]] = {}
    for target, publication, excluded in items:
        for outbox in target.outboxes:
            if outbox not in excluded:
                messages_of.setdefault(outbox, []).append(publication)
    for outbox, messages in messages_of.items():
        outbox.put(messages, join_frames(messages))


def join_frames(messages: list[Publication]) -> bytes:
    """Join the frames of messages."""
    if len(messages) == 1:
        return messages[0].frame or messages[0].make_frame()
    return b"".join([publication.frame or publication.make_frame() for publication in messages])


WRITE_BATCHES = PerLoop(WriteBatch)
