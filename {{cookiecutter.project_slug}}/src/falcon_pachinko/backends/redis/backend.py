"""The backend of many processes, over Redis or Valkey; the only module that other packages import."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Sequence
from typing import Any

from ...errors import BackendUnavailable, LeaseLost
from ...history import History, Position
from ...presence import MemberPage
from ...publication import Publication
from ...support.tasks import TaskSet
from ..base import CURRENT_LEASE, Backend, Lease, Timing
from ..buffer import check_bytes
from ..presence import Presence
from .eviction import evict
from .leases import Leases
from .pipeline import Pipeline, wait_all
from .presence import PresenceTable
from .publisher import RedisPublisher
from .pubsub import PubSub
from .recovery import Recovery
from .script import DEFAULT_REDIS_BYTES, NODES, ROOM_TTL_MS, hash_tag, raw
from .server_info import ServerInfoReader
from .subscriptions import Subscriptions
from .url import check_url, make_client

__all__ = ["RedisBackend", "RedisPublisher", "check_url"]

logger = logging.getLogger(__name__)

# A third of the time that Redis keeps a room's keys, so that some refreshes may fail.
REFRESH_SECONDS = ROOM_TTL_MS / 1000 / 3


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
        self.pipeline = Pipeline(self.client, lambda reason: self.pubsub.restart(reason))
        self.pipeline.outage = "the backend has not been started: the server must run the lifespan"
        report_outage = self.pipeline.report_outage
        self.pubsub = PubSub(self.client, self.on_message, self.sync_all, report_outage)
        self.presence = PresenceTable(self.pipeline, self.timing.grace_seconds)
        self.subscriptions = Subscriptions(self.pipeline, self.pubsub, self.presence.reenter)
        self.recovery = Recovery(self.subscriptions)
        self.leases = Leases(self.pipeline, self.timing.expiry_seconds)
        self.server_info = ServerInfoReader(self.client)
        self.tasks = TaskSet()
        self.node_id = ""
        self.is_unknown = False
        self.synced_run_ids: set[bytes] = set()
        self.refreshed_at = self.synced_at = 0.0
        self.available: asyncio.Event

    @property
    def outage(self) -> str:
        """The reason why Redis is unavailable; empty while it is available."""
        return self.pipeline.outage

    @property
    def details(self) -> dict[str, str]:
        """The eviction policy of Redis, once it has been read."""
        return self.server_info.details

    # The life of the node.

    async def start(self) -> None:
        """Connect; return when that is done, or after ``answer_seconds``."""
        self.node_id = secrets.token_hex(4)
        self.leases.holder = self.node_id
        self.subscriptions.node = self.node
        self.presence.reset(self.node_id)
        self.available = asyncio.Event()
        self.pipeline.outage = "no response yet"
        for tag in (f"{NODES}:all", f"{NODES}:to:{self.node_id}"):
            self.pubsub.channels[self.client.channel(tag)] = None
        self.tasks.create_task(self.pipeline.run())
        self.tasks.create_task(self.pubsub.run())
        self.tasks.create_task(self.run_heartbeats())
        self.tasks.create_task(self.server_info.run(self.available))
        try:
            async with asyncio.timeout(self.timing.answer_seconds):
                await self.available.wait()
        except TimeoutError:
            logger.error("Redis is unavailable: %s; retrying", self.outage)

    async def stop(self) -> None:
        """Complete pending operations, leave expiries to the other nodes, and disconnect."""
        if not self.outage:
            expires_ms = round(self.timing.grace_seconds * 1000) + 100
            self.pipeline.call_ignoring_outcome(
                "stop_node", NODES, self.presence.incarnation, expires_ms
            )
            await self.pipeline.wait_idle(self.timing.answer_seconds)
        self.pipeline.outage = "the backend has been stopped"
        await self.presence.tasks.aclose()
        await self.subscriptions.tasks.aclose()
        await self.tasks.aclose()
        await self.pubsub.aclose()
        await self.client.aclose()

    async def sync_all(self) -> None:
        """Synchronize the node and Redis after an outage, once all channels are subscribed."""
        try:
            known, *expired = await self.send_heartbeat()
            if not known or self.is_unknown:
                # NOTE: under a new name, because the eviction of the old one may be in progress. Other nodes
                #   have announced that its users left; or Redis has lost its data, and queries in the
                #   meantime did not return them.
                self.is_unknown = False
                self.presence.reset(f"{self.node_id}.{secrets.token_hex(4)}")
                _, *expired = await self.send_heartbeat(is_new=True)
            self.subscriptions.discard_pending()
            await self.subscriptions.sync_all()
            # NOTE: a server that has restarted or has replaced another one may lack the last changes. Without a
            #   refresh for this long, Redis may have deleted keys.
            run_ids, now = self.pubsub.run_ids.copy(), asyncio.get_running_loop().time()
            in_doubt = not run_ids <= self.synced_run_ids or now - self.synced_at > REFRESH_SECONDS
            await self.presence.sync(in_doubt=in_doubt)
            self.synced_run_ids, self.synced_at = run_ids, now
        except BackendUnavailable as error:
            raise ConnectionError(error.reason) from None
        if self.available.is_set():
            logger.warning("Redis is available again")
        self.pipeline.outage = ""
        self.available.set()
        # NOTE: clients join and leave all the time, so that waiting for their changes might never end. These
        #   operations are submitted before any later one.
        self.presence.send_remaining()
        self.subscriptions.start_resyncs()
        self.subscriptions.release_all()
        self.evict(expired)

    def send_heartbeat(self, *, is_new: bool = False) -> asyncio.Future[list[Any]]:
        """Renew the node's lease, or acquire one under a new name."""
        expiry_ms = round(self.timing.expiry_seconds * 1000)
        heartbeat_ms = round(self.timing.heartbeat_seconds * 1000)
        incarnation = self.presence.incarnation
        return self.pipeline.call("heartbeat", NODES, incarnation, expiry_ms, heartbeat_ms, is_new)

    async def run_heartbeats(self) -> None:
        """Send heartbeats, evict expired nodes and refresh this node's keys until cancelled."""
        while True:
            await asyncio.sleep(self.timing.heartbeat_seconds)
            if self.outage:
                continue
            try:
                known, *expired = await self.send_heartbeat()
                if not known:
                    self.is_unknown = True
                    self.pipeline.report_outage("Redis does not know this node any more")
                    continue
                self.synced_at = asyncio.get_running_loop().time()
                self.pipeline.call_ignoring_outcome("trim_histories", NODES)
                self.subscriptions.retry_refused()
                self.presence.retry_refused()
                self.subscriptions.expire_buffers()
                # NOTE: until the next heartbeat Redis names these to no other node.
                self.evict(expired)
                await self.refresh_keys()
            except BackendUnavailable:
                continue

    async def refresh_keys(self) -> None:
        """Extend the life of this node's keys in Redis, if it is time."""
        now = asyncio.get_running_loop().time()
        if now - self.refreshed_at < REFRESH_SECONDS:
            return
        self.refreshed_at = now
        calls = [self.pipeline.call("refresh_rooms", NODES, self.presence.incarnation)]
        for room in self.subscriptions.streams:
            calls.append(self.pipeline.call("refresh_room", hash_tag(room)))
        await wait_all(calls)
        await self.presence.prune_rooms()

    def evict(self, nodes: Sequence[bytes]) -> None:
        """Evict expired nodes in the background."""
        for node in nodes:
            self.tasks.create_task(evict(self.pipeline, node.decode()))

    # Publishing.

    def publish(
        self, room: str, publication: Publication, *, ephemeral: bool = False
    ) -> Awaitable[None]:
        """Publish to a room."""
        self.pipeline.check_available()
        lease = CURRENT_LEASE.get()
        if lease is None:
            fence = token = None
        elif lease.expires <= asyncio.get_running_loop().time():
            raise LeaseLost(f"the lease of {lease.name!r} has expired")
        else:
            fence, token = lease.name, lease.token
        data = raw(publication.encode())
        operation = ("publish", hash_tag(room), data, ephemeral, fence, token)
        return self.pipeline.submit(operation, check_fencing)

    def publish_direct(self, publication: Publication) -> Awaitable[int]:
        """Publish to a user, a connection or all connections."""
        self.pipeline.check_available()
        connection = publication.header.connection
        # NOTE: the id of a connection begins with the id of its node.
        target = "all" if connection is None else f"to:{connection[: len(self.node_id)]}"
        return self.pipeline.call("send", f"{NODES}:{target}", raw(publication.encode()))

    def on_message(self, channel: bytes, data: bytes) -> None:
        """Handle a message from Redis."""
        tag = channel.decode()[len(self.client.prefix) + 1 :]
        if tag.startswith(NODES):
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

    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection from a room."""
        return self.presence.leave(room, presence, grace=grace)

    async def present(self, room: str, user: str) -> bool:
        """Return whether a user is in a room; during an outage, on this node."""
        return await self.presence.present(room, user)

    async def members(
        self, room: str, after: int | str | None = None, limit: int | None = None
    ) -> MemberPage:
        """Return a page of the users in a room; during an outage, those of this node."""
        return await self.presence.members(room, after, limit)

    async def member_count(self, room: str) -> int:
        """Return the number of users in a room; during an outage, those of this node."""
        return (await self.presence.members(room, None, 1)).total

    async def rooms(self, prefix: str) -> list[str]:
        """Return the names of all live nodes' rooms that start with a prefix."""
        return await self.presence.rooms(prefix)

    async def acquire(self, name: str) -> Lease | float:
        """Acquire a lease, or return the seconds until the next attempt."""
        return await self.leases.acquire(name)

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease; return whether it is still held."""
        return await self.leases.renew(lease)

    async def release(self, lease: Lease) -> None:
        """Release a lease."""
        self.leases.release(lease)


def check_fencing(offset: int) -> None:
    """Raise LeaseLost if Redis has refused a publication because of a newer fencing token."""
    if offset == -1:
        raise LeaseLost("another worker has taken over the lease")
