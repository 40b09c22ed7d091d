"""The backend of many processes, over Redis or Valkey; the only module that other packages import."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Sequence

from ...errors import BackendUnavailable, ConfigurationError
from ...history import History, Position
from ...presence import MemberPage
from ...publication import Publication
from ...support.tasks import TaskSet, ignore
from ..base import CURRENT_LEASE, Backend, Lease, Node, Timing, check_lease
from ..buffer import check_bytes
from ..presence import Presence
from . import operations
from .availability import Availability, State
from .commands import Command, Commands, send_command
from .leases import RedisLeases
from .members import MemberLists
from .operations import Terms
from .pipeline import Pipeline
from .presence import PresenceTable
from .publisher import RedisPublisher
from .pubsub import PubSub
from .recovery import Recovery
from .renewal import Renewals
from .room_index import RoomIndex, rooms_with_prefix
from .room_presence import RoomPresence
from .script import DEFAULT_REDIS_BYTES, NODES, hash_tag
from .server_info import ServerInfoReader
from .subscriptions import Subscriptions
from .url import check_url, make_client
from .user_counts import UserCountTable

__all__ = ["RedisBackend", "RedisPublisher", "check_url"]

logger = logging.getLogger(__name__)

# A lease of a node that stops ends this long after the last grace period.
STOP_MARGIN_MS = 100


class RedisBackend(Backend):
    """Connects all processes with the same URL and prefix.

    All operations go through one script (see :mod:`.script`), which assigns positions and publishes; a node
    delivers its own publications when they arrive from Redis.

    Args:
        url: See :func:`~falcon_pachinko.backends.redis.url.make_client`.
        prefix: Prefix of all keys and channels. Services that share a Redis each need their own: the number
            of a database does not separate channels.
        timing: Timeouts and intervals; the same in all processes.
        history_bytes: The maximum size of all histories in Redis; the same in all processes. Above it the
            oldest messages of the largest history are dropped. Not on a cluster, where each room is bounded.

    Raises:
        ConfigurationError: The URL or the size cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "pachinko",
        timing: Timing | None = None,
        history_bytes: int = DEFAULT_REDIS_BYTES,
    ) -> None:
        self.timing = timing or Timing()
        seconds = self.timing.answer_seconds
        self.client = make_client(url, prefix, seconds, check_bytes(history_bytes))
        self.node: Node
        self.build()

    def build(self) -> None:
        """Create the parts of a node with a new name."""
        self.node_id = secrets.token_hex(4)
        timing = self.timing
        self.terms = Terms(
            node=self.node_id,
            lease=round(timing.expiry_seconds * 1000),
            period=round(timing.renewal_seconds * 1000),
            grace=round(timing.grace_seconds * 1000),
            recovery=round(1000 * max(timing.grace_seconds, min(timing.renewal_seconds, 1.0))),
        )
        self.availability = Availability()
        self.pipeline = Pipeline(
            self.client, self.availability, lambda reason: self.pubsub.restart(reason)
        )
        report_outage = self.pipeline.report_outage
        self.pubsub = PubSub(self.client, self.on_message, self.recover_node, report_outage)
        rooms: dict[str, RoomPresence] = {}
        self.index = RoomIndex(self.pipeline, self.terms, rooms)
        self.presence = PresenceTable(self.pipeline, self.terms, self.index, rooms)
        self.subscriptions = Subscriptions(self.pipeline, self.pubsub, self.terms)
        self.commands = Commands(self.pipeline, self.node_id)
        self.user_counts = UserCountTable(self.pipeline, self.terms)
        self.renewals = Renewals(
            self.pipeline,
            self.terms,
            self.index,
            self.subscriptions,
            self.presence,
            self.commands,
            self.user_counts,
        )
        self.presence.in_doubt = self.user_counts.in_doubt = lambda: self.renewals.in_doubt
        self.presence.on_listed = self.renewals.renew_room_later
        self.subscriptions.on_control = self.renewals.on_control
        self.member_lists = MemberLists(
            self.pipeline,
            self.terms,
            self.subscriptions.streams,
            self.presence,
            self.presence.in_doubt,
        )
        self.recovery = Recovery(self.subscriptions)
        self.leases = RedisLeases(self.pipeline, self.timing.expiry_seconds)
        self.server_info = ServerInfoReader(self.client)
        self.tasks = TaskSet()
        self.refusal: ConfigurationError | None = None
        self.renewing: asyncio.Task[None] | None = None
        self.available: asyncio.Event

    @property
    def outage(self) -> str:
        """The reason why Redis is unavailable; empty while it is available."""
        return self.availability.outage

    @property
    def details(self) -> dict[str, str]:
        """The eviction policy of Redis, once it has been read."""
        return self.server_info.details

    # The life of the node.

    async def start(self) -> None:
        """Connect; return when that is done, or after ``answer_seconds``.

        Raises:
            ConfigurationError: Nodes of another version of the protocol use the prefix.
        """
        if self.availability.state is State.STOPPED:
            self.build()
        self.leases.holder = self.node_id
        self.subscriptions.node = self.commands.node = self.node
        self.presence.on_recovered = self.node.on_members_outdated
        self.available = asyncio.Event()
        self.availability.connect()
        for tag in (f"{NODES}:all", f"{NODES}:to:{self.node_id}"):
            self.pubsub.channels[self.client.channel(tag)] = None
        self.tasks.create_task(self.pipeline.run())
        self.tasks.create_task(self.pubsub.run())
        renewing = self.renewals.run(self.timing.renewal_seconds)
        self.renewing = self.tasks.create_task(renewing)
        self.tasks.create_task(self.server_info.run(self.available))
        try:
            async with asyncio.timeout(self.timing.answer_seconds):
                await self.available.wait()
        except TimeoutError:
            self.availability.lose("no response yet")
        if self.refusal is not None:
            await self.stop()
            raise self.refusal

    async def stop(self) -> None:
        """Complete pending operations, leave the users in their grace periods to other nodes, and disconnect."""
        self.renewals.is_stopping = True
        if self.renewing is not None:
            self.renewing.cancel()
        if not self.outage:
            ms = self.terms.grace + STOP_MARGIN_MS
            for room in self.presence.rooms:
                self.pipeline.call_ignoring_outcome(
                    operations.stop_node(hash_tag(room), self.terms, ms)
                )
            self.pipeline.call_ignoring_outcome(operations.remove_node(self.node_id))
            await self.pipeline.wait_idle(self.timing.answer_seconds)
        self.availability.stop()
        await self.presence.tasks.aclose()
        await self.subscriptions.tasks.aclose()
        await self.tasks.aclose()
        await self.pubsub.tasks.aclose()
        await self.pubsub.aclose()
        await self.client.aclose()

    async def recover_node(self) -> None:
        """Make Redis and the node agree again, once all channels are subscribed."""
        outage_seconds = 0.0
        if self.availability.state is State.UNAVAILABLE:
            self.renewals.begin_doubt()
            outage_seconds = time.monotonic() - self.availability.since
        try:
            await self.commands.sync(outage_seconds)
            self.subscriptions.discard_pending()
            self.presence.send_leaves()
            await self.renewals.renew()
            await self.subscriptions.sync_all()
        except BackendUnavailable as error:
            raise ConnectionError(error.reason) from None
        except ConfigurationError as error:
            self.refusal = error
            self.available.set()
            raise ConnectionError(str(error)) from None
        self.renewals.has_started = True
        self.availability.recover()
        self.available.set()
        # NOTE: clients join and leave all the time, so that waiting for their changes might never end. These
        #   operations are submitted before any later one.
        self.presence.send_changes()
        self.user_counts.send_changes()
        self.subscriptions.start_resyncs()
        self.subscriptions.release_all()
        for room in self.member_lists.take_outdated():
            self.node.on_members_outdated(room)

    # Publishing.

    def publish(
        self, room: str, publication: Publication, *, ephemeral: bool = False
    ) -> Awaitable[None]:
        """Publish to a room."""
        self.pipeline.check_available()
        lease = CURRENT_LEASE.get()
        check_lease(lease)
        operation = operations.publish(
            hash_tag(room),
            publication.encode(),
            ephemeral=ephemeral,
            node=self.presence.node_in(room),
            lease=lease,
        )
        if ephemeral:
            return self.pipeline.submit(operation, ignore)
        return self.pipeline.submit(
            operation, lambda position: self.subscriptions.expect(room, position)
        )

    def publish_direct(self, publication: Publication) -> Awaitable[int]:
        """Publish to a user, a connection or all connections."""
        check_lease(CURRENT_LEASE.get())
        self.pipeline.check_available()
        connection = publication.header.connection
        # NOTE: the id of a connection begins with the id of its node.
        target = "all" if connection is None else f"to:{connection[: len(self.node_id)]}"
        return self.pipeline.call(operations.send(f"{NODES}:{target}", publication.encode()))

    async def command(self, publication: Publication, room: str | None = None) -> None:
        """Close connections on all nodes."""
        self.pipeline.check_available()
        command = Command(publication, room)
        seconds = self.timing.answer_seconds
        await send_command(self.pipeline.call, command, seconds, self.node_id)

    def on_message(self, channel: bytes, data: bytes) -> None:
        """Handle a message from Redis."""
        tag = self.client.tag(channel.decode())
        if tag.startswith(NODES):
            if data.startswith(b"!"):
                head, _, command = data.partition(b"\n")
                self.commands.on_message(head.decode(), command)
            else:
                self.node.deliver_direct(Publication.decode(data))
        else:
            self.subscriptions.on_message(tag, data)

    # Rooms and presence.

    async def subscribe(self, room: str, history: History | None) -> None:
        """Subscribe to a room, or wait for the subscription in progress."""
        await self.subscriptions.subscribe(room, history)

    def unsubscribe(self, room: str) -> None:
        """Undo one :meth:`subscribe`."""
        self.subscriptions.unsubscribe(room)

    def position(self, room: str) -> Position | None:
        """Return the position of the last publication delivered here."""
        return self.subscriptions.position(room)

    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position."""
        return await self.recovery.recover(room, since)

    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position if this process has them."""
        return self.recovery.recover_local(room, since)

    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Add a connection to a room."""
        return self.presence.enter(room, presence)

    def update(
        self, room: str, presence: Presence, message: Publication | None = None
    ) -> Awaitable[None]:
        """Store the record of a connection, and publish a message with it."""
        if message is None:
            return self.presence.update(room, presence)
        self.pipeline.check_available()
        return self.presence.update_with_message(
            room, presence, message, lambda position: self.subscriptions.expect(room, position)
        )

    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection from a room."""
        return self.presence.leave(room, presence, grace=grace)

    async def present(self, room: str, user: str) -> bool:
        """Return whether a user is in a room; during an outage, on this node."""
        return await self.member_lists.present(room, user)

    async def members(
        self, room: str, after: int | str | None = None, limit: int | None = None
    ) -> MemberPage:
        """Return a page of the users in a room; during an outage, those of this node."""
        return await self.member_lists.page(room, after, limit)

    async def occupancy(self, room: str) -> int:
        """Return the number of users in a room; during an outage, those of this node."""
        return await self.member_lists.occupancy(room)

    async def rooms(self, prefix: str) -> list[str]:
        """Return the names of all live nodes' rooms that start with a prefix."""
        self.pipeline.check_available()
        return await rooms_with_prefix(self.pipeline.call, prefix)

    def reserve_user(self, user: str, max_connections: float) -> asyncio.Future[bool] | None:
        """Reserve a place for a connection of a user."""
        return self.user_counts.reserve_user(user, max_connections)

    def release_user(self, user: str) -> None:
        """Release a place that was granted."""
        self.user_counts.release_user(user)

    async def acquire(self, name: str) -> Lease | float:
        """Acquire a lease, or return the seconds until the next attempt."""
        return await self.leases.acquire(name)

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease; return whether it is still held."""
        return await self.leases.renew(lease)

    async def release(self, lease: Lease) -> None:
        """Release a lease."""
        await self.leases.release(lease)

    async def tick(self, lease: Lease, schedule: str, seconds: float) -> float:
        """Take the next tick of a schedule if it is due."""
        return await self.leases.tick(lease, schedule, seconds)
