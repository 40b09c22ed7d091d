"""Reads rooms from Redis or Valkey: their positions, and missed publications in bounded pieces."""

from __future__ import annotations

import asyncio

from ...history import Position
from . import operations
from .fetched import Fetched
from .operations import Terms
from .pipeline import Pipeline
from .script import hash_tag
from .stream import RoomStream

# The maximum number of rooms whose missed publications are fetched at the same time: four pieces of 128 KiB, which take
# Redis about 1 ms.
MAX_CONCURRENT_FETCHES = 4


class Fetcher:
    """Reads rooms, a few at the same time.

    Args:
        pipeline: Executes operations.
        terms: The node, and its durations.
    """

    def __init__(self, pipeline: Pipeline, terms: Terms) -> None:
        self.pipeline = pipeline
        self.terms = terms
        self.fetching = asyncio.Semaphore(MAX_CONCURRENT_FETCHES)

    async def fetch(
        self,
        room: str,
        stream: RoomStream,
        known: Position | None,
        *,
        everything: bool = False,
    ) -> Fetched:
        """Fetch the room's position and a piece of the publications after a known one, or of all of them."""
        operation = operations.sync_room(
            hash_tag(room), self.terms, stream.history, known, everything=everything
        )
        if known is None and not everything:
            return Fetched.decode(await self.pipeline.call(operation), stream.clock())
        async with self.fetching:
            return Fetched.decode(await self.pipeline.call(operation), stream.clock())

    async def fetch_all(
        self, room: str, stream: RoomStream, known: Position | None, *, everything: bool = False
    ) -> Fetched:
        """Fetch all pieces; for a room whose publications are kept in the buffer, which bounds them."""
        fetched = await self.fetch(room, stream, known, everything=everything)
        while fetched.more:
            rest = await self.fetch(room, stream, fetched.until)
            if rest.until.epoch == fetched.until.epoch:
                rest = rest._replace(publications=[*fetched.publications, *rest.publications])
            fetched = rest
        return fetched
