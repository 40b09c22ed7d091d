"""A node: the parts of the Redis backend, and their life from the start to the stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time

from ...errors import BackendUnavailable, ConfigurationError
from ...publication import Publication
from ...support.tasks import TaskSet
from ..base import Node
from ..numbers import BackendNumbers
from ..restriction_table import RestrictionTable
from ..timing import Timing
from . import operations
from .availability import Availability, State
from .client import RedisClient
from .commands import Commands
from .leases import RedisLeases
from .members import MemberLists
from .once import RedisOnce
from .operations import Terms
from .pipeline import Pipeline
from .presence import PresenceTable
from .pubsub import PubSub
from .recovery import Recovery
from .renewal import Renewals
from .restrictions import RedisRestrictions
from .room_index import RoomIndex
from .room_presence import RoomPresence
from .script import NODES, hash_tag
from .server_info import ServerInfoReader
from .subscriptions import Subscriptions
from .user_counts import UserCountTable

logger = logging.getLogger(__name__)

# A lease of a node that stops ends this long after the last grace period.
STOP_MARGIN_MS = 100


class RedisNode(BackendNumbers):
    """The parts of a node of the Redis backend.

    Args:
        client: The client of Redis or Valkey.
        timing: Timeouts and intervals.
    """

    node: Node

    def __init__(self, client: RedisClient, timing: Timing) -> None:
        self.client = client
        self.timing = timing
        self.restrictions = RestrictionTable()
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
        self.availability = Availability(self.counters)
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
        self.shared_restrictions = RedisRestrictions(
            self.pipeline, self.node_id, timing.answer_seconds, self.restrictions
        )
        self.renewals = Renewals(
            self.pipeline,
            self.terms,
            self.index,
            self.subscriptions,
            self.presence,
            self.commands,
            self.shared_restrictions,
            self.user_counts,
        )
        self.presence.on_listed = self.renewals.renew_room_later
        self.subscriptions.on_control = self.renewals.on_control
        self.member_lists = MemberLists(
            self.pipeline,
            self.terms,
            self.subscriptions.streams,
            self.presence,
        )
        self.recovery = Recovery(self.subscriptions)
        self.leases = RedisLeases(self.pipeline, self.timing.expiry_seconds)
        self.server_info = ServerInfoReader(self.client)
        self.tasks = TaskSet()
        self.once = RedisOnce(self.pipeline, self.node_id, self.tasks)
        self.refusal: ConfigurationError | None = None
        self.renewing: asyncio.Task[None] | None = None
        self.available: asyncio.Event

    @property
    def outage(self) -> str:
        """The reason why Redis is unavailable; empty while it is available."""
        return self.availability.outage

    @property
    def history_bytes(self) -> int:
        """The memory of the messages that this node keeps of the histories."""
        return self.subscriptions.budget.size_bytes

    @property
    def unavailable_seconds(self) -> float:
        """The duration of all outages of Redis, the present one included."""
        return self.availability.unavailable_seconds

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
        self.presence.on_recovered = self.on_members_outdated
        self.shared_restrictions.node = self.node
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
            for room in self.presence.rooms:
                grace_ms = round(1000 * self.presence.longest_grace_seconds(room))
                ms = max(self.terms.grace, grace_ms) + STOP_MARGIN_MS
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
            self.subscriptions.end_live()
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

    def on_members_outdated(self, room: str) -> None:
        """Let the members of a room get a list that is read from now on."""
        self.member_lists.end_sharing(room)
        self.node.on_members_outdated(room)

    def on_message(self, channel: bytes, data: bytes) -> None:
        """Handle a message from Redis."""
        tag = self.client.tag(channel.decode())
        if tag.startswith(NODES):
            if data.startswith(b"!"):
                head, _, rest = data.partition(b"\n")
                is_restriction = head.startswith(b"!restrict:")
                receiver = self.shared_restrictions if is_restriction else self.commands
                receiver.on_message(head.decode(), rest)
            else:
                self.node.deliver_direct(Publication.decode(data))
        else:
            self.subscriptions.on_message(tag, data)
