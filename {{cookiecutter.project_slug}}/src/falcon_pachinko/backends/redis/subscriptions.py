"""The room subscriptions of a node: live delivery, gap recovery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ...errors import BackendUnavailable, OperationRefused, failure_reason
from ...history import History, Position
from ...publication import Publication
from ...support.tasks import TaskSet
from ..base import Node
from ..buffer import HistoryBudget
from . import operations
from .client import CONNECTION_ERRORS
from .fetching import MAX_CONCURRENT_FETCHES, Fetcher
from .operations import Terms
from .operations.replies import decode_change
from .pipeline import Pipeline
from .pubsub import PubSub
from .script import hash_tag, room_of
from .stream import RoomStream, StreamState

logger = logging.getLogger(__name__)


class Subscriptions:
    """The rooms to which a node has subscribed.

    Attributes:
        node: Receives the publications.
        budget: The memory of the buffers of all rooms, and its bound.
        counters: The numbers of events.
        streams: The stream of each room.
        on_control: Called with a room and a message for the nodes on its channel.
        expected: The positions of publications that this node has published and not received yet.
        unreleased: Rooms without a local subscription that Redis has not released yet.

    Args:
        pipeline: Executes operations.
        pubsub: Receives the channels of the rooms.
        terms: The node, and its durations.
    """

    node: Node

    def __init__(self, pipeline: Pipeline, pubsub: PubSub, terms: Terms) -> None:
        self.pipeline = pipeline
        self.pubsub = pubsub
        self.terms = terms
        self.budget = HistoryBudget()
        self.counters = pipeline.availability.counters
        self.streams: dict[str, RoomStream] = {}
        self.expected: dict[str, Position] = {}
        self.on_control: Callable[[str, str], None]
        self.fetcher = Fetcher(pipeline, terms)
        self.unreleased: set[str] = set()
        self.tasks = TaskSet()

    def on_message(self, tag: str, data: bytes) -> None:
        """Decode a message of a room's channel and pass it to the stream."""
        head, _, rest = data.partition(b"\n")
        room = room_of(tag)
        stream = self.streams.get(room)
        if stream is None:
            return
        if head.startswith(b"!"):
            self.on_control(room, head.decode())
            return
        publication = Publication.decode(rest)
        if head != b"-":
            epoch, offset, shown, ms, *change = head.split(b":", 4)
            publication.number(Position(epoch.decode(), int(offset)), int(ms), shown=shown == b"1")
            if self.counters.counting:
                self.counters.redis_lag.observe(self.pipeline.client.age_seconds(tag, int(ms)))
            if change:
                publication.change = decode_change(room, change[0])
        if stream.receive(publication):
            self.tasks.create_task(self._run(self.sync, room, stream))

    def expect(self, room: str, position: Position) -> None:
        """Check after ``answer_seconds`` that a publication has arrived whose position Redis has reported."""
        stream = self.streams.get(room)
        if stream is None or stream.position is None or stream.has_passed(position):
            return
        if not self.expected:
            self.tasks.call_later(self.pipeline.client.answer_seconds, self.check_expected)
        self.expected[room] = position

    def check_expected(self) -> None:
        """Fetch the publications that have not arrived, though Redis has published them."""
        expected, self.expected = self.expected, {}
        for room, position in expected.items():
            stream = self.streams.get(room)
            if stream is not None and not stream.has_gap and not stream.has_passed(position):
                stream.expect_gap()
                self.tasks.create_task(self._run(self.sync, room, stream))

    async def subscribe(self, room: str, history: History | None) -> None:
        """Subscribe to a room, or wait for the subscription in progress."""
        loop = asyncio.get_running_loop()
        stream = self.streams.get(room)
        if stream is None:
            stream = RoomStream(
                lambda publication: self.node.deliver(room, publication),
                lambda: self.node.on_history_lost(room),
                loop.time,
                self.budget,
            )
            self.streams[room] = stream
        stream.subscriptions += 1
        if stream.starting is None or (history is not None and stream.history is None):
            stream.history = history or stream.history
            stream.starting = self.tasks.create_task(self.start_stream(room, stream))
        if not stream.starting.done():
            try:
                await asyncio.wait({stream.starting})
            except BaseException:
                self.unsubscribe(room)
                raise
        if history is not None and (stream.position is None or self.pipeline.outage):
            stream.needs_resync = True

    async def start_stream(self, room: str, stream: RoomStream) -> None:
        """Subscribe to the channel, then fetch the position, so that no publication is missed in between."""
        try:
            await self.pubsub.subscribe(self.pipeline.client.channel(hash_tag(room)))
        except CONNECTION_ERRORS as error:
            self.report_failure(room, BackendUnavailable(failure_reason(error)))
            # NOTE: also during a recovery, which would otherwise leave this room without subscription.
            self.pubsub.restart(failure_reason(error))
            return
        if self.pubsub.is_subscribed and self.is_current(room, stream):
            await self._run(self.sync, room, stream)

    def unsubscribe(self, room: str) -> None:
        """Undo one :meth:`subscribe`; with the last one, unsubscribe from the channel."""
        stream = self.streams[room]
        stream.subscriptions -= 1
        if stream.subscriptions:
            return
        stream.drop_buffer()
        del self.streams[room]
        self.unreleased.add(room)
        channel = self.pipeline.client.channel(hash_tag(room))
        self.pubsub.unsubscribe(channel, lambda: self.release(room))

    def release(self, room: str) -> None:
        """Let Redis delete a room without subscribers."""
        self.unreleased.discard(room)
        if room not in self.streams:

            def on_failure(error: BackendUnavailable) -> None:
                if not isinstance(error, OperationRefused):
                    self.unreleased.add(room)

            self.pipeline.submit(operations.release_room(hash_tag(room)), None, on_failure)

    def release_all(self) -> None:
        """Release the rooms that could not be released during an outage."""
        for room in tuple(self.unreleased):
            self.release(room)

    async def sync(self, room: str, stream: RoomStream) -> None:
        """Fetch missed publications, piece by piece, until there is no gap.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        while self.is_current(room, stream):
            known = stream.position
            fetched = await self.fetcher.fetch(room, stream, known)
            if known is None and stream.position is not None:
                continue  # a concurrent fetch has set the position: this one is outdated
            if self.is_current(room, stream) and stream.fill_gap(fetched):
                return

    async def resync(self, room: str, stream: RoomStream) -> None:
        """Sync after an outage, and provide the history for clients that joined during it.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        if not stream.needs_resync or stream.history is None:
            await self.sync(room, stream)
            return
        start = stream.position
        recorded: list[tuple[float, Publication]] = []
        stream.recorded = recorded
        try:
            fetched = await self.fetcher.fetch_all(room, stream, start, everything=True)
            if not self.is_current(room, stream):
                return
            old, new = fetched.split(start or fetched.until)
            stream.fill_gap(new)
            stream.start_buffer(stream.history, [*old, *recorded])
        finally:
            if stream.recorded is recorded:
                stream.recorded = None
        if stream.has_gap:
            await self.sync(room, stream)
        if self.is_current(room, stream):
            stream.needs_resync = False
            self.node.on_resync(room)

    async def sync_all(self) -> None:
        """Sync rooms after an outage, a few at a time; a room that is complete stays complete.

        Rooms with the same position in Redis as here have missed nothing (:meth:`check_position`). A room that
        receives a live publication is synced before its turn (:meth:`on_message`).

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        waiting = [item for item in self.streams.items() if not self.is_complete(item[1])][::-1]

        async def work() -> None:
            while waiting:
                room, stream = waiting.pop()
                try:
                    await self.resync(room, stream)
                except OperationRefused as error:
                    self.report_failure(room, error)

        await asyncio.gather(*[work() for _ in range(MAX_CONCURRENT_FETCHES)])

    def is_complete(self, stream: RoomStream) -> bool:
        """Return whether a room has missed nothing in an outage, and no client needs its history."""
        return stream.state is StreamState.LIVE and not stream.needs_resync

    def check_position(self, room: str, position: Position) -> None:
        """Sync a room if Redis reports a position that has not been delivered here; a recovery syncs all rooms."""
        stream = self.streams.get(room)
        if stream is None or stream.syncing:
            return
        last = stream.position
        stream.verify(position)
        if self.pipeline.outage:
            return  # sync_all follows
        is_known = last is not None and last.epoch == position.epoch
        if stream.has_gap or stream.needs_resync or not is_known:
            stream.expect_gap()
            self.tasks.create_task(self._run(self.resync, room, stream))
        else:
            self.expect(room, position)

    def start_resyncs(self) -> None:
        """Resync in the background the rooms that clients joined during :meth:`sync_all`."""
        for room, stream in self.streams.items():
            if stream.needs_resync:
                # NOTE: reconnecting clients wait for it, as it loads the buffer.
                stream.loading = self.tasks.create_task(self._run(self.resync, room, stream))

    async def _run(
        self,
        operation: Callable[[str, RoomStream], Awaitable[None]],
        room: str,
        stream: RoomStream,
    ) -> None:
        """Sync a room in the background; report a failure."""
        stream.syncing += 1
        try:
            await operation(room, stream)
        except BackendUnavailable as error:
            self.report_failure(room, error)
        finally:
            stream.syncing -= 1
            if stream.loading is asyncio.current_task():
                stream.loading = None

    def is_current(self, room: str, stream: RoomStream) -> bool:
        """Return whether a stream belongs to the room's present subscription, not to an earlier one."""
        return self.streams.get(room) is stream

    def end_live(self) -> None:
        """Discard pending publications at an outage: the next fetch returns those that still exist."""
        for stream in self.streams.values():
            stream.end_live()

    def expire_buffers(self) -> None:
        """Free what no client has used since the last call, and old messages; called periodically."""
        self.budget.drop_restored()
        for stream in self.streams.values():
            stream.expire_buffer()

    def report_failure(self, room: str, error: BackendUnavailable) -> None:
        """Log a failed sync; the next renewal repeats it, or the recovery from the outage."""
        logger.info("room %r: sync failed: %s; retrying", room, error.reason)
        if not isinstance(error, OperationRefused) and not self.pipeline.outage:
            self.pipeline.report_outage(error.reason)

    def position(self, room: str) -> Position | None:
        """Return the position of the last publication delivered here."""
        stream = self.streams.get(room)
        return stream.position if stream is not None and stream.shows_positions else None
