"""The room subscriptions of a node: live delivery, gap recovery."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from ...errors import BackendUnavailable, OperationRefused, failure_reason
from ...history import History, Position
from ...publication import Publication
from ...support.tasks import TaskSet
from ..base import Node
from ..buffer import HistoryBudget
from .client import CONNECTION_ERRORS
from .pipeline import Pipeline
from .pubsub import PubSub
from .script import hash_tag, room_of
from .stream import Fetched, RoomStream

logger = logging.getLogger(__name__)


class Subscriptions:
    """The rooms to which a node has subscribed.

    Attributes:
        node: Receives the publications.
        budget: The memory of the buffers of all rooms, and its bound.
        streams: The stream of each room.
        refused: Rooms that Redis has refused to sync, because of a key of a wrong type for example.
        unreleased: Rooms without a local subscription that Redis has not released yet.

    Args:
        pipeline: Executes operations.
        pubsub: Receives the channels of the rooms.
        on_room_lost: Called with a room whose data Redis may have lost.
    """

    node: Node

    def __init__(
        self, pipeline: Pipeline, pubsub: PubSub, on_room_lost: Callable[[str], None]
    ) -> None:
        self.pipeline = pipeline
        self.pubsub = pubsub
        self.on_room_lost = on_room_lost
        self.budget = HistoryBudget()
        self.streams: dict[str, RoomStream] = {}
        self.refused: set[str] = set()
        self.unreleased: set[str] = set()
        self.tasks = TaskSet()

    def on_history_lost(self, room: str) -> None:
        """Handle a gap that cannot be filled: the room's presence may be lost, too."""
        self.on_room_lost(room)
        self.node.on_history_lost(room)

    def on_message(self, tag: str, data: bytes) -> None:
        """Decode a message of a room's channel and pass it to the stream."""
        head, _, rest = data.partition(b"\n")
        room = room_of(tag)
        stream = self.streams.get(room)
        if stream is None:
            return
        publication = Publication.decode(rest)
        if head != b"-":
            epoch, offset, shown = head.split(b":")
            publication.number(Position(epoch.decode(), int(offset)), shown=shown == b"1")
        if stream.receive(publication):
            self.tasks.create_task(self._run(self.sync, room, stream))

    async def subscribe(self, room: str, history: History | None) -> None:
        """Subscribe to a room, or wait for the subscription in progress."""
        loop = asyncio.get_running_loop()
        stream = self.streams.get(room)
        if stream is None:
            stream = RoomStream(
                lambda publication: self.node.deliver(room, publication),
                lambda: self.on_history_lost(room),
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

            self.pipeline.submit(("release_room", hash_tag(room)), None, on_failure)

    def release_all(self) -> None:
        """Release the rooms that could not be released during an outage."""
        for room in tuple(self.unreleased):
            self.release(room)

    async def sync(self, room: str, stream: RoomStream) -> None:
        """Fetch missed publications until there is no gap.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        while self.is_current(room, stream):
            known = stream.position
            fetched = await self.fetch(room, stream, known)
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
            fetched = await self.fetch(room, stream, start, everything=True)
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
        """Sync all rooms after an outage.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """

        async def resync(room: str, stream: RoomStream) -> None:
            try:
                await self.resync(room, stream)
            except OperationRefused as error:
                self.report_failure(room, error)

        await asyncio.gather(*[resync(*item) for item in self.streams.items()])

    def retry_refused(self) -> None:
        """Sync in the background the rooms that Redis has refused to sync."""
        for room in tuple(self.refused):
            stream = self.streams.get(room)
            if stream is None:
                self.refused.discard(room)
            else:
                self.tasks.create_task(self._run(self.resync, room, stream))

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
        try:
            await operation(room, stream)
            self.refused.discard(room)
        except BackendUnavailable as error:
            self.report_failure(room, error)
        finally:
            if stream.loading is asyncio.current_task():
                stream.loading = None

    def is_current(self, room: str, stream: RoomStream) -> bool:
        """Return whether a stream belongs to the room's present subscription, not to an earlier one."""
        return self.streams.get(room) is stream

    def discard_pending(self) -> None:
        """Discard live publications from before an outage: the next fetch returns those that still exist."""
        for stream in self.streams.values():
            stream.discard_pending()

    def expire_buffers(self) -> None:
        """Free what no client has used since the last call, and old messages; called periodically."""
        self.budget.drop_restored()
        for stream in self.streams.values():
            stream.expire_buffer()

    def report_failure(self, room: str, error: BackendUnavailable) -> None:
        """Sync a refused room again with the next heartbeat, or all rooms after an outage."""
        if isinstance(error, OperationRefused):
            if room not in self.refused:
                logger.warning("room %r: Redis has refused it: %s; retrying", room, error.reason)
            self.refused.add(room)
            return
        logger.info("room %r: sync failed: %s; retrying", room, error.reason)
        if not self.pipeline.outage:
            self.pipeline.report_outage(error.reason)

    async def fetch(
        self,
        room: str,
        stream: RoomStream,
        known: Position | None,
        *,
        everything: bool = False,
    ) -> Fetched:
        """Fetch the room's position and the publications after a known one, or all of them."""
        history = stream.history
        reply = await self.pipeline.call(
            "sync_room",
            hash_tag(room),
            secrets.token_hex(8),
            0 if history is None else history.messages,
            0 if history is None else round(history.seconds * 1000),
            None if known is None else known.epoch,
            None if known is None else known.offset,
            everything,
            0 if history is None else history.room_bytes,
        )
        return Fetched.decode(reply, stream.clock())

    def position(self, room: str) -> Position | None:
        """Return the position of the last publication delivered here."""
        stream = self.streams.get(room)
        return stream.position if stream is not None and stream.shows_positions else None
