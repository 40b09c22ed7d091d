"""The renewal of everything that a node has in Redis or Valkey: its leases, its lists, its place among the nodes."""

from __future__ import annotations

import asyncio
import logging

from ...errors import BackendUnavailable, ConfigurationError
from ...support.tasks import retrieve_exception
from . import operations
from .commands import Commands
from .operations import Renewed, Terms
from .pipeline import Pipeline, wait_all
from .presence import PresenceTable
from .restrictions import RedisRestrictions
from .room_index import RoomIndex, chunks
from .script import PROTOCOL, ROOM_TTL_MS, hash_tag
from .subscriptions import Subscriptions
from .user_counts import UserCountTable

logger = logging.getLogger(__name__)

# A quarter of the time that Redis keeps a room's keys, so that some renewals may fail.
EXTEND_SECONDS = ROOM_TTL_MS / 1000 / 4


class Renewals:
    """Renews a node's leases and compares Redis with the node, room by room.

    Attributes:
        has_started: Whether the node has agreed with Redis once.
        is_stopping: Whether the node gives its leases up.
        doubt_until: Until this time on the event loop's clock other nodes may have been unable to renew.
        renewed_at: The start of the last complete renewal, likewise.

    Args:
        pipeline: Executes operations.
        terms: The node, and its durations.
        index: The list of the node's rooms.
        subscriptions: The rooms to which the node has subscribed.
        presence: The connections of the node.
        commands: The commands that the node knows.
        restrictions: The restrictions that the node knows.
        user_counts: The connections of each user of the node.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        terms: Terms,
        index: RoomIndex,
        subscriptions: Subscriptions,
        presence: PresenceTable,
        commands: Commands,
        restrictions: RedisRestrictions,
        user_counts: UserCountTable,
    ) -> None:
        self.pipeline = pipeline
        self.terms = terms
        self.index = index
        self.subscriptions = subscriptions
        self.presence = presence
        self.commands = commands
        self.restrictions = restrictions
        self.user_counts = user_counts
        self.doubt_until = self.extended_at = self.renewed_at = 0.0
        self.has_started = False
        self.is_stopping = False
        pipeline.client.on_clock_jump = self.on_clock_jump
        pipeline.client.in_doubt = lambda: self.in_doubt

    @property
    def in_doubt(self) -> bool:
        """Whether other nodes may have been unable to renew their leases until a moment ago.

        So they may if this node has been: all may have stood still.
        """
        now = asyncio.get_running_loop().time()
        is_late = self.has_started and now - self.renewed_at > self.terms.lease / 1000
        return is_late or now < self.doubt_until

    def begin_doubt(self) -> None:
        """Give other nodes one period in which they can renew, after Redis was unavailable."""
        self.doubt_until = asyncio.get_running_loop().time() + self.terms.period / 1000

    def on_clock_jump(self, ms: float) -> None:
        """Handle a jump of a server's clock: leases may seem to have expired."""
        logger.warning("Redis: the server's clock has jumped ahead by %.1f s", ms / 1000)
        self.begin_doubt()

    async def run(self, seconds: float) -> None:
        """Renew after each interval until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            if not (self.has_started and self.subscriptions.pubsub.is_subscribed):
                continue
            try:
                await self.renew()
            except BackendUnavailable as error:
                logger.info("the leases were not renewed: %s; retrying", error.reason)
            except Exception:
                logger.exception("Redis: unexpected error in the renewal of leases; retrying")

    async def renew(self) -> None:
        """Renew everything once.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        beat = await self.index.renew()
        if beat.other_protocol:
            self.on_other_protocol(beat.other_protocol)
        self.commands.forget_old()
        if beat.commands != len(self.commands.known):
            await self.commands.sync()
        await self.restrictions.renew(beat.restrictions)
        now = asyncio.get_running_loop().time()
        extend = now - self.extended_at > EXTEND_SECONDS
        self.extended_at = now if extend else self.extended_at
        for chunk in chunks([*{*self.subscriptions.streams, *self.presence.rooms}]):
            # NOTE: other operations are executed in between.
            await wait_all([self.renew_room_nowait(room, extend=extend) for room in chunk])
        await self.user_counts.renew(beat.nodes)
        self.renewed_at = now
        self.pipeline.call_ignoring_outcome(operations.trim_histories())
        self.subscriptions.expire_buffers()

    def on_other_protocol(self, version: str) -> None:
        """Refuse to start beside nodes of another version; a node that has started only reports them.

        Raises:
            ConfigurationError: See above.
        """
        text = (
            f"nodes with version {version} of the protocol use this prefix in Redis, but this node has version"
            f" {PROTOCOL}: stop them first, or give this service another prefix"
        )
        if not self.has_started:
            raise ConfigurationError(text)
        logger.error("Redis: %s", text)

    def renew_room_nowait(self, room: str, *, extend: bool = False) -> asyncio.Future[object]:
        """Renew the lease in a room, and compare the room's position and the list with those of this node.

        Act with the call; the future gives the outcome.
        """
        state = self.presence.rooms.get(room)
        stream = self.subscriptions.streams.get(room)

        def on_reply(renewed: Renewed) -> None:
            self.presence.on_renewed(room, renewed)
            self.subscriptions.check_position(room, renewed.position)

        operation = operations.renew_room(
            hash_tag(room),
            self.terms,
            generation="" if state is None else state.generation,
            digest=None if state is None or state.is_listing else state.digest,
            known=None if stream is None else stream.position,
            extend=extend,
        )
        return self.pipeline.submit(operation, on_reply)

    def renew_room_later(self, room: str) -> None:
        """Renew the lease in a room without waiting for it."""
        if not (self.pipeline.outage or self.is_stopping):
            self.renew_room_nowait(room).add_done_callback(retrieve_exception)

    def on_control(self, room: str, message: str) -> None:
        """Handle a message of the script to the nodes in a room."""
        kind, _, argument = message.partition(":")
        if kind == "!lost":
            self.renew_room_later(room)
        elif kind == "!changed":
            self.presence.on_changed(room, argument)
        elif kind == "!stop":
            seconds = int(argument) / 1000
            tasks = self.presence.tasks
            tasks.call_later(seconds, lambda: tasks.create_task(self.presence.expire_others(room)))
