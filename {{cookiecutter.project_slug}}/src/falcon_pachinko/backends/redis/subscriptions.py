"""The room subscriptions of a node: live delivery, gap recovery, history for reconnecting clients."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

from ...errors import BackendUnavailable, failure_reason
from ...history import History, Position, last_known
from ...publication import Publication
from ...support.tasks import TaskSet
from ..base import Node
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
        streams: The stream of each room.
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
        self.streams: dict[str, RoomStream] = {}
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
            self.report_outage(room, failure_reason(error))
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
        del self.streams[room]
        self.unreleased.add(room)
        channel = self.pipeline.client.channel(hash_tag(room))
        self.pubsub.unsubscribe(channel, lambda: self.release(room))

    def release(self, room: str) -> None:
        """Let Redis delete a room without subscribers."""
        self.unreleased.discard(room)
        if room not in self.streams:
            operation = ("release_room", hash_tag(room))
            self.pipeline.submit(operation, None, lambda: self.unreleased.add(room))

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
        fetched = await self.fetch(room, stream, start, everything=True)
        if not self.is_current(room, stream):
            return
        old, new = fetched.split(start or fetched.until)
        stream.fill_gap(new)
        stream.start_buffer(stream.history, [*old, *recorded])
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
        await asyncio.gather(*[self.resync(*item) for item in self.streams.items()])

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
        """Sync a room in the background; report an outage."""
        try:
            await operation(room, stream)
        except BackendUnavailable as error:
            self.report_outage(room, error.reason)
        finally:
            if stream.loading is asyncio.current_task():
                stream.loading = None

    def is_current(self, room: str, stream: RoomStream) -> bool:
        """Return whether a stream belongs to the room's present subscription, not to an earlier one."""
        return self.streams.get(room) is stream

    def discard_pending(self) -> None:
        """Discard live publications from before an outage: the next fetch returns those that still exist."""
        for stream in self.streams.values():
            stream.pending.clear()

    def report_outage(self, room: str, reason: str) -> None:
        """Report an outage, so that all rooms are synced again after it."""
        logger.info("room %r: sync failed: %s; retrying", room, reason)
        if not self.pipeline.outage:
            self.pipeline.report_outage(reason)

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
        )
        return Fetched.decode(reply, stream.clock())

    def position(self, room: str) -> Position | None:
        """Return the position of the last publication delivered here."""
        stream = self.streams.get(room)
        return stream.position if stream is not None and stream.shows_positions else None

    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position; one fetch serves all clients that reconnect together."""
        stream = self.streams[room]
        if stream.history is None:
            return None
        try:
            self.pipeline.check_available()
            known = last_known(self.position(room), since)
            if known is None or stream.is_behind(known):
                # NOTE: another node may have delivered a publication earlier.
                await self.sync(room, stream)
                known = last_known(self.position(room), since)
            while stream.buffer is None and known is not None and known != stream.position:
                if stream.loading is None:
                    loading = self.load_buffer(room, stream, stream.history)
                    stream.loading = self.tasks.create_task(loading)
                await asyncio.wait({stream.loading})
                self.pipeline.check_available()
                known = last_known(self.position(room), since)
        except BackendUnavailable as error:
            stream.needs_resync = True
            if not self.pipeline.outage:
                self.pipeline.report_outage(error.reason)
            raise
        return self.recover_local(room, since)

    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position if the buffer has them."""
        stream, known = self.streams[room], last_known(self.position(room), since)
        if known is None or stream.position is None:
            return None
        if known == stream.position:
            return []
        if stream.buffer is None:
            return None
        stream.buffer_was_used = True
        return stream.buffer.between(known, stream.position, stream.clock())

    async def load_buffer(self, room: str, stream: RoomStream, history: History) -> None:
        """Fetch the last publications of a room into the buffer, which is kept up to date from then on."""
        start = stream.position
        assert start is not None
        recorded: list[tuple[float, Publication]] = []
        stream.recorded = recorded
        try:
            before = Position(start.epoch, max(0, start.offset - history.messages))
            fetched = await self.fetch(room, stream, before)
            # NOTE: after an outage the buffer may exist already, or the epoch may have changed.
            is_same_epoch = fetched.until.epoch == start.epoch
            if stream.recorded is recorded and is_same_epoch and stream.has_passed(start):
                old, _ = fetched.split(start)
                stream.start_buffer(history, [*old, *recorded])
            elif not is_same_epoch or fetched.until.offset < start.offset:
                await self.sync(room, stream)
        except BackendUnavailable as error:
            logger.info("room %r: the history cannot be read: %s", room, error)
            self.pipeline.report_outage(error.reason)
        finally:
            if stream.recorded is recorded:
                stream.recorded = None
            stream.loading = None
