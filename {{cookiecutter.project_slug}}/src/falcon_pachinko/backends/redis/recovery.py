"""The history of rooms for reconnecting clients: fetched from Redis once for all that reconnect together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...errors import BackendUnavailable, OperationRefused
from ...history import History, Position, last_known
from ...publication import Publication
from . import operations
from .fetched import Fetched
from .script import MESSAGES_PER_READ, hash_tag
from .stream import RoomStream
from .subscriptions import Subscriptions


class Recovery:
    """Returns the publications that clients have missed.

    Args:
        subscriptions: The subscribed rooms.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.subscriptions = subscriptions

    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position; one fetch serves all clients that reconnect together."""
        stream = self.subscriptions.streams[room]
        if stream.history is None:
            return None
        try:
            self.subscriptions.pipeline.check_available()
            known = last_known(self.subscriptions.position(room), since)
            if known is None or stream.is_behind(known):
                # NOTE: another node may have delivered a publication earlier.
                await self.subscriptions.sync(room, stream)
                known = last_known(self.subscriptions.position(room), since)
            while stream.buffer is None and known is not None and known != stream.position:
                await self.wait_loaded(room, stream, stream.history)
                known = last_known(self.subscriptions.position(room), since)
        except BackendUnavailable as error:
            stream.needs_resync = True
            self.subscriptions.report_failure(room, error)
            raise
        return self.recover_local(room, since)

    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position if the buffer has them."""
        stream, known = (
            self.subscriptions.streams[room],
            last_known(self.subscriptions.position(room), since),
        )
        if known is None or stream.position is None:
            return None
        if known == stream.position:
            return []
        if stream.buffer is None:
            return None
        stream.buffer_was_used = True
        return stream.buffer.between(known, stream.position, stream.clock())

    async def recent(self, room: str, count: int) -> list[Publication]:
        """Return the last publications; one fetch serves all clients that join while they are in use."""
        stream = self.subscriptions.streams[room]
        if stream.history is None:
            return []
        try:
            while stream.buffer is None and stream.position is not None and stream.position.offset:
                await self.wait_loaded(room, stream, stream.history)
        except BackendUnavailable as error:
            stream.needs_resync = True
            self.subscriptions.report_failure(room, error)
            raise
        return self.recent_local(room, count)

    def recent_local(self, room: str, count: int) -> list[Publication]:
        """Return the last publications if the buffer has them."""
        stream = self.subscriptions.streams[room]
        if stream.buffer is None:
            return []
        stream.buffer_was_used = True
        return stream.buffer.before(None, count, stream.clock())

    async def past(self, room: str, before: Position | None, count: int) -> list[Publication]:
        """Read the last publications before a position, whether the room is subscribed or not."""
        now, found = asyncio.get_running_loop().time(), list[Publication]()
        while len(found) < count:
            piece = min(count - len(found), MESSAGES_PER_READ)
            operation = operations.past(hash_tag(room), before, piece)
            fetched = Fetched.decode(await self.subscriptions.pipeline.call(operation), now)
            if not fetched.publications:
                break
            found = [publication for _, publication in fetched.publications] + found
            before = found[0].position
        return found

    async def wait_loaded(self, room: str, stream: RoomStream, history: History) -> None:
        """Load the buffer, once for all that wait for it.

        Raises:
            BackendUnavailable: Redis is unavailable, or refuses.
        """
        self.subscriptions.pipeline.check_available()
        if stream.loading is None:
            loading = self.load_buffer(room, stream, history)
            stream.loading = self.subscriptions.tasks.create_task(loading)
        await asyncio.wait({stream.loading})
        self.subscriptions.pipeline.check_available()
        if stream.buffer is None and stream.loading_failed:
            raise OperationRefused("the history cannot be read")

    async def load_buffer(self, room: str, stream: RoomStream, history: History) -> None:
        """Fetch the last publications of a room into the buffer, which is kept up to date from then on."""
        start = stream.position
        assert start is not None
        recorded: list[tuple[float, Publication]] = []
        stream.recorded, stream.loading_failed = recorded, True
        try:
            before = Position(start.epoch, max(0, start.offset - history.messages))
            fetched = await self.subscriptions.fetcher.fetch_all(room, stream, before)
            stream.loading_failed = False
            if not self.subscriptions.is_current(room, stream):
                return
            # NOTE: after an outage the buffer may exist already, or the epoch may have changed.
            is_same_epoch = fetched.until.epoch == start.epoch
            if stream.recorded is recorded and is_same_epoch and stream.has_passed(start):
                old, _ = fetched.split(start)
                stream.start_buffer(history, [*old, *recorded])
            elif not is_same_epoch or fetched.until.offset < start.offset:
                await self.subscriptions.sync(room, stream)
        except BackendUnavailable as error:
            self.subscriptions.report_failure(room, error)
        finally:
            if stream.recorded is recorded:
                stream.recorded = None
            stream.loading = None
