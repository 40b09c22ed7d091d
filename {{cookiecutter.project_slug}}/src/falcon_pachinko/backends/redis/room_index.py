"""The list of a node's rooms in Redis or Valkey, which lets any node find rooms by their names."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from ...errors import BackendUnavailable
from . import operations
from .operations import Beat, Caller, Operation, Terms
from .pipeline import Pipeline
from .script import ROOMS_PER_OPERATION


class RoomIndex:
    """The rooms where a node has members, and the node's place in the list of live nodes.

    The index is leased like everything that a node stores: it is compared with each renewal.

    Attributes:
        is_outdated: Whether Redis may lack a change.
        was_listed: Whether the node has had a place in the list of nodes.
        listed_until: Until this time on the event loop's clock the place has not expired.

    Args:
        pipeline: Executes operations.
        terms: The node, and its durations.
        rooms: The rooms that belong into the index.
    """

    def __init__(self, pipeline: Pipeline, terms: Terms, rooms: Collection[str]) -> None:
        self.pipeline = pipeline
        self.terms = terms
        self.rooms = rooms
        self.was_listed = False
        self.listed_until = 0.0
        self.is_outdated = False

    def add(self, room: str) -> None:
        """Add a room with its first member."""
        self._change(operations.add_rooms(self.terms.node, [room]))

    def remove(self, room: str) -> None:
        """Remove a room after its last member has left."""
        self._change(operations.remove_rooms(self.terms.node, [room]))

    def _change(self, operation: Operation[None]) -> None:
        if self.pipeline.outage:
            self.is_outdated = True
        else:
            self.pipeline.submit(operation, None, self._on_failure)

    def _on_failure(self, _: BackendUnavailable) -> None:
        self.is_outdated = True

    async def renew(self) -> Beat:
        """Renew the node's place in the list, and the index if it is not complete.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        expected = len(self.rooms)
        now = asyncio.get_running_loop().time()
        operation = operations.beat(
            self.terms, was_listed=self.was_listed, is_listed=now < self.listed_until
        )
        beat = await self.pipeline.call(operation)
        self.was_listed = True
        if not beat.other_protocol:
            self.listed_until = now + self.terms.lease / 1000
        if self.is_outdated or beat.rooms not in (expected, len(self.rooms)):
            self.is_outdated = False
            calls = [self.pipeline.submit(operations.clear_rooms(self.terms.node))]
            for chunk in chunks(list(self.rooms)):
                calls.append(self.pipeline.submit(operations.add_rooms(self.terms.node, chunk)))
            try:
                await asyncio.gather(*calls)
            except BaseException:
                self.is_outdated = True
                raise
        return beat


async def rooms_with_prefix(call: Caller, prefix: str) -> list[str]:
    """Return the sorted names of all live nodes' rooms that start with a prefix.

    Args:
        call: Executes an operation.
        prefix: The start of the names.
    """
    found: set[str] = set()
    for node in await call(operations.live_nodes()):
        cursor = ""
        while cursor != "0":
            cursor, names = await call(operations.rooms_of(node, cursor or "0"))
            found.update(name for name in names if name.startswith(prefix))
    return sorted(found)


def chunks(rooms: Sequence[str]) -> Iterator[list[str]]:
    """Split rooms into lists that one operation can take."""
    remaining = iter(rooms)
    while chunk := list(islice(remaining, ROOMS_PER_OPERATION)):
        yield chunk
