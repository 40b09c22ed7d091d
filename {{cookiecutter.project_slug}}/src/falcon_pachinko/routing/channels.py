"""The rooms of one connection that is in several rooms: joins, leaves, the end of the connection."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import falcon.asgi
from falcon import WebSocketDisconnected
from msgspec import UNSET, UnsetType

from .. import close_codes
from ..connection.channel import Channel
from ..connection.channel_inbox import Demultiplexer
from ..connection.channel_outbox import reply_in_room, room_field
from ..connection.connection import Connection
from ..connection.joins import JoinPayload, JoinRoom
from ..connection.rate_limit import MessageRate, address_of
from ..connection.state import OPEN
from ..errors import BackendUnavailable, Forbidden, InvalidRoomName, ProviderUnavailable, Reject
from ..lifecycle import Lifecycle
from ..messages import Message, ServerError
from ..resource import WebSocketResource
from ..rooms.authorization import JOIN, require
from .route import WebSocketRoute, set_past

logger = logging.getLogger(__name__)

Ref = str | UnsetType

# SECURITY: each buffers up to an outbox of messages until on_connect accepts.
JOINS_AT_ONCE = 10
# A room that waits for a slow client looks so often whether the client has disconnected.
CHECK_SECONDS = 1.0


class RoomChannels:
    """The rooms of one connection: a :class:`~falcon_pachinko.connection.carrier.Channels`.

    Each room has a resource and a life cycle of its own, in a task of its own.

    Attributes:
        by_room: The latest channel of each room by the client's name of it.
        running: The tasks of all channels, those included that are about to end.
        resources: The resources of the channels.
        turns: The channels that count for the bound of joins at once.

    Args:
        route: The route whose resources the rooms have.
        connection: The connection.
        demultiplexer: Its inbox.
        req: The request of its handshake.
        parameters_of: Returns the arguments of ``on_connect`` for a room; raises InvalidRoomName.
    """

    def __init__(
        self,
        route: WebSocketRoute,
        connection: Connection,
        demultiplexer: Demultiplexer,
        req: falcon.asgi.Request,
        parameters_of: Callable[[str], dict[str, Any]],
    ) -> None:
        self.route = route
        self.connection = connection
        self.demultiplexer = demultiplexer
        self.req = req
        self.parameters_of = parameters_of
        self.registry = route.manager._registry
        self.by_room: dict[str, Channel] = {}
        self.running: dict[Channel, asyncio.Task[None]] = {}
        self.resources: dict[Channel, WebSocketResource] = {}
        self.turns: set[Channel] = set()
        self.rate: MessageRate | None = None
        self.joining = asyncio.Semaphore(JOINS_AT_ONCE)
        self.opening = asyncio.Lock()

    def __iter__(self) -> Iterator[Channel]:
        return (channel for channel in self.by_room.values() if channel.state is OPEN)

    def names(self) -> dict[str, Channel]:
        """Return the open channels by the client's names of their rooms."""
        return {channel.room: channel for channel in self}

    async def join(self, payload: JoinPayload, ref: Ref) -> None:
        """Join rooms, each of which is answered by itself."""
        rooms = payload.all_rooms
        most = self.connection.limits.rooms_per_connection
        if len(rooms) > most:
            error = f"A connection is in {most} rooms at most."
            self.refuse("tooManyRooms", error, payload.room, ref)
            return
        for each in rooms:
            if not self.connection.closed:
                await self._join(each, ref)

    async def _join(self, asked: JoinRoom, ref: Ref) -> None:
        room, most = asked.room, self.connection.limits.rooms_per_connection
        try:
            parameters = self.parameters_of(room)
        except InvalidRoomName as error:
            await self._refuse_join("invalidRoom", error.reason, room, ref, error.code)
            return
        known = self.by_room.get(room)
        if known is not None and not known.closed:
            await self._refuse_join("alreadyJoined", "You are in this room.", room, ref)
        elif len(self.running) >= most:
            text = f"A connection is in {most} rooms at most."
            await self._refuse_join("tooManyRooms", text, room, ref)
        elif not self._take_token():
            text = "Too many rooms at once: try again later."
            await self._refuse_join("tooManyMessages", text, room, ref)
        else:
            self._start(asked, ref, parameters, known)

    async def _refuse_join(
        self, code: str, text: str, room: str, ref: Ref, close_code: int | UnsetType = UNSET
    ) -> None:
        """Refuse to join a room; SECURITY: the reply counts as a message of the client, of which 100 fit in one."""
        now, connection = asyncio.get_running_loop().time(), self.connection
        if self.rate is None:
            address, rates = address_of(self.req.scope), self.registry.rates
            self.rate = rates.hold(connection.limits, connection._rate_key, address, now)
        if self.rate is not None and not self.rate.take(now) and self.rate.exhausted:
            await connection.close(close_codes.TOO_MANY_MESSAGES, "too many messages")
        self.refuse(code, text, room, ref, close_code)

    def _take_token(self) -> bool:
        """Return whether the user may join another room now: as many as all its connections may be in, at once."""
        connection, limits = self.connection, self.connection.limits
        now = asyncio.get_running_loop().time()
        burst = limits.rooms_per_connection * min(self.registry.users.max_connections, 1_000)
        if limits.messages_per_second == math.inf:
            return True
        buckets = self.registry.rates.of_type(JOIN, limits.messages_per_second, burst)
        # NOTE: a tuple is not the name of a user.
        key = (connection.id,) if connection.user is None else connection.user
        return buckets.of(key, now).take_available(now)

    def _start(
        self, asked: JoinRoom, ref: Ref, parameters: dict[str, Any], predecessor: Channel | None
    ) -> None:
        """Run the life of a channel, after that of the one before it in the same room."""
        node_id = self.route.manager.backend.node_id
        channel = Channel(self.connection, self.demultiplexer, asked.room, ref, node_id)
        self.by_room[asked.room] = channel
        self.demultiplexer.channels[asked.room] = channel._inbox
        before = None if predecessor is None else self.running.get(predecessor)
        run = self._run(channel, asked, parameters, before)
        self.running[channel] = asyncio.create_task(run)

    async def _run(
        self,
        channel: Channel,
        asked: JoinRoom,
        parameters: dict[str, Any],
        before: asyncio.Task[None] | None,
    ) -> None:
        """Run the life of a channel; its exceptions end this channel only."""
        channel._log_from_here()
        try:
            if before is not None:
                await asyncio.wait({before})
            await self.joining.acquire()
            self.turns.add(channel)
            if not channel.closed:  # Or the client has left, or has disconnected, meanwhile.
                await self._live(channel, asked, parameters)
        finally:
            self._end_turn(channel)
            self.running.pop(channel, None)
            self.resources.pop(channel, None)
            if self.by_room.get(channel.room) is channel:
                del self.by_room[channel.room]
                del self.demultiplexer.channels[channel.room]
            await channel.aclose()

    async def _live(self, channel: Channel, asked: JoinRoom, parameters: dict[str, Any]) -> None:
        code, reason = close_codes.INTERNAL_ERROR, ""
        try:
            resource, config = self.route.make_resource(channel)
            self.resources[channel] = resource
            channel._route = self.route.uri_template
            channel._configure(config.for_channel())
            if config.history is not None:
                set_past(channel, asked.since, asked.connection)
            channel.take_identity()
            await Lifecycle(resource, channel, self.registry).run(self.req, parameters)
        except (BackendUnavailable, ProviderUnavailable) as error:
            logger.warning("%r: temporarily unavailable: %s", channel, error)
            code, reason = close_codes.TRY_AGAIN_LATER, error.text
        except WebSocketDisconnected:
            logger.debug("%r: the client has disconnected", channel)
        except Exception as error:
            code = close_codes.close_code_of(error)
            if code == close_codes.INTERNAL_ERROR:
                logger.exception("%r failed", channel)
        if channel._before_close is not None:
            await channel._before_close(code)
        await channel.close(code, reason)

    def _end_turn(self, channel: Channel) -> None:
        if channel in self.turns:
            self.turns.discard(channel)
            self.joining.release()

    async def leave(self, room: str, ref: Ref) -> None:
        """Leave a room for a request of the client."""
        channel = self.by_room.get(room)
        if channel is None or channel.closed:
            self.refuse("notJoined", "You are not in this room.", room, ref)
        else:
            await channel.leave(ref)

    def refuse(
        self, code: str, text: str, room: str, ref: Ref, close_code: int | UnsetType = UNSET
    ) -> None:
        """Reply to a request with an error about a room."""
        self.reply(ServerError(code=code, error=text, close_code=close_code), room, ref)

    def reply(self, message: Message, room: str, ref: Ref) -> None:
        """Send a message about a room to the client."""
        self.connection._catch_up()
        if not self.connection.closed:
            self.connection._outbox.write(reply_in_room(message, ref, room_field(room)))

    # Called by the connection, its channels and the refresh of its session.

    async def wait_turn(self, channel: Channel) -> None:
        """Wait until the client has been sent what earlier joins have brought.

        Each of them fits in the outbox, but not all of them together.
        """
        identity = self.connection.identity
        while channel.identity is not identity:  # The session has been refreshed during on_connect.
            refusal = await self._refusal_of(channel, identity)
            if refusal is not None:
                raise Reject(close_codes.ACCESS_DENIED, refusal)
            channel.take_identity()
            identity = self.connection.identity
        self._end_turn(channel)
        await self.opening.acquire()
        loop, outbox = asyncio.get_running_loop(), self.connection._outbox
        try:
            while outbox.waiting and not channel.closed:
                await outbox.wait_drained(CHECK_SECONDS)
        finally:
            # NOTE: after the messages that the caller writes now have left the write batch.
            loop.call_soon(loop.call_soon, self.opening.release)

    def on_closed(self, close_code: int | None) -> None:
        """End all channels: the connection is closed, or its client has disconnected."""
        for channel in tuple(self.running):
            channel.end(close_code)

    def on_channel_closed(self, channel: Channel) -> None:
        """Deliver nothing more to a channel."""
        self.registry.on_channel_closed(channel)

    async def aclose(self) -> None:
        """Wait until all channels have ended; the connection is closed."""
        self.registry.rates.release(self.rate)
        while self.running:
            for channel in self.running:
                channel._inbox.end()
            await asyncio.wait(self.running.values())

    async def find_refused(self, identity: object) -> Mapping[Channel, str]:
        """Return the channels whose rooms a new identity may not be in, each with a sentence for the user."""
        checked: set[Channel] = set()
        refused: dict[Channel, str] = {}
        while channels := [channel for channel in self if channel not in checked]:
            for channel in channels:
                refusal = await self._refusal_of(channel, identity)
                checked.add(channel)
                if refusal is not None:
                    refused[channel] = refusal
        return refused

    async def _refusal_of(self, channel: Channel, identity: object) -> str | None:
        """Return the sentence for a user who may not be in the rooms of a channel."""
        resource = self.resources.get(channel)
        for room in self.registry.rooms_of(channel):
            try:
                await require(resource, JOIN, room, identity)
            except Forbidden as refusal:
                return refusal.text
        return None

    def on_refreshed(self, identity: object, refused: Mapping[Channel, str]) -> None:
        """Continue all channels with a new identity, but for those that are refused, which are closed."""
        self.req.context.user = identity
        for channel in self:
            channel.take_identity()
        for channel, text in refused.items():
            self.registry.tasks.create_task(channel.close(close_codes.ACCESS_DENIED, text))
