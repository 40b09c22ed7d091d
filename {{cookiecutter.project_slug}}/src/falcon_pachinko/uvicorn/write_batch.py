"""What leaves at the end of a turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import groupby
from operator import itemgetter
from typing import Protocol

from ..publication import Publication
from ..support.loop_local import PerLoop

# PERF: what is this large gains nothing by being joined with more.
MAX_JOINED_BYTES = 65_536


class Target(Protocol):
    """One client or many."""

    @property
    def outboxes(self) -> Collection[Target]:
        """Where messages go."""

    def put(self, messages: list[Publication], data: bytes) -> None:
        """Write messages, whose frames are joined already, or let them wait."""


Post = tuple[Target, Publication, Collection[object]]


class Turn:
    """What is to be written at the end of this turn of the event loop.

    A lone message is not delayed: the loop has nothing else to do before. Of many messages to the same
    clients, all frames leave in one write for each client, and are joined once for all of them.

    Attributes:
        changes: Counts how often an outbox has begun or ceased to let frames straight out.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.posts: list[Post] = []
        self.size_bytes = 0
        self.changes = 0

    def post(
        self, target: Target, publication: Publication, excluded: Collection[object] = ()
    ) -> None:
        """Let a message out at the end of this turn.

        Args:
            target: Who gets it.
            publication: No event.
            excluded: Outboxes of the target that do not get it.
        """
        if not self.posts:
            self.loop.call_soon(self.end)
        self.posts.append((target, publication, excluded))
        self.size_bytes += len(publication.frame or publication.make_frame())
        if self.size_bytes > MAX_JOINED_BYTES:
            self.end()

    def end(self) -> None:
        """Write what has come together."""
        posts, self.posts = self.posts, []
        self.size_bytes = 0
        runs = [(target, list(run)) for target, run in groupby(posts, key=itemgetter(0))]
        if len(runs) > len({id(target) for target, _ in runs}):
            write_each(posts)  # a target that comes again would get more than one write
            return
        for target, run in runs:
            if any(excluded for _, _, excluded in run):
                write_each(run)
            else:
                messages = [publication for _, publication, _ in run]
                target.put(messages, join_frames(messages))


def write_each(posts: list[Post]) -> None:
    """Write messages to whomever each is for, all of one client at once."""
    messages_of: dict[Target, list[Publication]] = {}
    for target, publication, excluded in posts:
        for outbox in target.outboxes:
            if outbox not in excluded:
                messages_of.setdefault(outbox, []).append(publication)
    for outbox, messages in messages_of.items():
        outbox.put(messages, join_frames(messages))


def join_frames(messages: list[Publication]) -> bytes:
    """The finished frames of messages, one behind the other."""
    if len(messages) == 1:
        return messages[0].frame or messages[0].make_frame()
    return b"".join([publication.frame or publication.make_frame() for publication in messages])


TURNS = PerLoop(Turn)
