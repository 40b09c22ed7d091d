"""The backend of many processes, over Redis or Valkey; the only module that other packages import."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Sequence

from ...history import History, Position
from ...presence import MemberPage
from ...publication import Publication
from ...support.tasks import ignore
from ..base import Backend
from ..buffer import check_bytes
from ..lease import CURRENT_LEASE, Lease, check_lease
from ..once import Claim, OnceRun
from ..presence import Presence
from ..restriction_entry import RestrictionChange
from ..tickets import is_ticket, new_ticket
from ..timing import Timing
from . import operations
from .commands import Command, send_command
from .node import RedisNode
from .publisher import RedisPublisher
from .room_index import rooms_with_prefix
from .script import DEFAULT_REDIS_BYTES, NODES, hash_tag
from .url import check_url, make_client

__all__ = ["RedisBackend", "RedisPublisher", "check_url"]

logger = logging.getLogger(__name__)

# A lease of a node that stops ends this long after the last grace period.
STOP_MARGIN_MS = 100


class RedisBackend(RedisNode, Backend):
    """Connects all processes with the same URL and prefix.

    All operations go through one script (see :mod:`.script`), which assigns positions and publishes; a node
    delivers its own publications when they arrive from Redis.

    Args:
        url: See :func:`~falcon_pachinko.backends.redis.url.make_client`.
        prefix: Prefix of all keys and channels. Services that share a database each need their own.
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
        timing = timing or Timing()
        client = make_client(url, prefix, timing.answer_seconds, check_bytes(history_bytes))
        super().__init__(client, timing)

    # Publishing.

    def publish_nowait(
        self,
        room: str,
        publication: Publication,
        *,
        ephemeral: bool = False,
        run: OnceRun | None = None,
    ) -> Awaitable[Position | None]:
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
            run=None if self.client.sharded else run,
        )
        if ephemeral:
            return self.pipeline.submit(operation, ignore)

        def on_published(position: Position) -> Position:
            self.subscriptions.expect(room, position)
            if run is not None:
                run.published = True
            return position

        return self.pipeline.submit(operation, on_published)

    async def publish_direct(self, publication: Publication) -> int:
        """Publish to a user, a connection or all connections."""
        check_lease(CURRENT_LEASE.get())
        self.pipeline.check_available()
        connection = publication.header.connection
        # NOTE: the id of a connection begins with the id of its node.
        target = "all" if connection is None else f"to:{connection[: len(self.node_id)]}"
        return await self.pipeline.call(operations.send(f"{NODES}:{target}", publication.encode()))

    async def command(self, publication: Publication, room: str | None = None) -> None:
        """Close connections on all nodes."""
        check_lease(CURRENT_LEASE.get())
        self.pipeline.check_available()
        command = Command(publication, room)
        seconds = self.timing.answer_seconds
        await send_command(self.pipeline.call, command, seconds, self.node_id)

    # Restrictions and tickets.

    async def restrict(self, change: RestrictionChange) -> None:
        """Change a restriction on all nodes."""
        check_lease(CURRENT_LEASE.get())
        self.pipeline.check_available()
        await self.shared_restrictions.restrict(change)

    async def issue_ticket(self, value: str, seconds: float) -> str:
        """Return a new ticket."""
        self.pipeline.check_available()
        ticket = new_ticket(value, seconds)
        await self.pipeline.call(operations.issue_ticket(ticket, value, math.ceil(seconds * 1000)))
        return ticket

    async def redeem_ticket(self, ticket: str) -> str | None:
        """Return the value of a ticket, once."""
        if not is_ticket(ticket):
            return None
        self.pipeline.check_available()
        return await self.pipeline.call(operations.redeem_ticket(ticket))

    # Requests that are handled once.

    async def claim_request(self, run: OnceRun, *, repeatable: bool) -> Claim:
        """Claim a request for an execution."""
        return await self.once.claim(run, repeatable=repeatable)

    def finish_request(self, run: OnceRun, reply: bytes) -> None:
        """Store the reply."""
        self.once.finish(run, reply)

    def release_request(self, run: OnceRun, *, repeatable: bool) -> None:
        """Release a claim whose execution has no reply."""
        self.once.release(run, repeatable=repeatable)

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

    async def recent(self, room: str, count: int) -> list[Publication]:
        """Return the last publications."""
        return await self.recovery.recent(room, count)

    def recent_local(self, room: str, count: int) -> list[Publication]:
        """Return the last publications if this process has them."""
        return self.recovery.recent_local(room, count)

    async def past(self, room: str, before: Position | None, count: int) -> list[Publication]:
        """Return the last publications before a position."""
        self.pipeline.check_available()
        return await self.recovery.past(room, before, count)

    def enter_nowait(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Add a connection to a room."""
        return self.presence.enter_nowait(room, presence)

    async def update(
        self, room: str, presence: Presence, message: Publication | None = None
    ) -> None:
        """Store the record of a connection, and publish a message with it."""
        if message is None:
            await self.presence.update_nowait(room, presence)
            return
        self.pipeline.check_available()
        await self.presence.update_with_message(
            room, presence, message, lambda position: self.subscriptions.expect(room, position)
        )

    def leave_nowait(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection from a room."""
        return self.presence.leave_nowait(room, presence, grace=grace)

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

    def reserve_user_nowait(self, user: str, max_connections: float) -> asyncio.Future[bool] | None:
        """Reserve a place for a connection of a user."""
        return self.user_counts.reserve_user_nowait(user, max_connections)

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
