"""The connections of this process and their rooms: receives from the backend, delivers to connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from falcon import WebSocketDisconnected

from ..backends.base import Backend
from ..backends.presence import Presence
from ..close_codes import end_code
from ..connection.budget import BufferBudget
from ..connection.channel import Channel
from ..connection.connection import Connection
from ..connection.rate_limit import MessageRates
from ..errors import BackendUnavailable, RegistrationError
from ..history import History
from ..limits import DEFAULT_SERVER_LIMITS, ServerLimits
from ..support.tasks import TaskSet
from .activity import Activities
from .commands import CloseCommands
from .delivery import Delivery
from .enforcement import Enforcement
from .membership import Membership
from .recovery import check_history, local_past_of, past_of, send_position
from .resync import Resyncs

logger = logging.getLogger(__name__)


class ConnectionRegistry(Delivery):
    """The connections of one process: a ``Node`` of the backend (:class:`..backends.base.Node`).

    Attributes:
        connections: Accepted connections by id.
        channels: Accepted channels by id: the rooms of connections that are in several.
        pending: Connections whose ``on_connect`` has not accepted yet, by id.
        synced: The rooms of connections that receive live messages.
        unsynced: Those of connections that joined during an outage, and get missed messages first.
        rates: The rates of messages by user and by address.
        fanouts: The fan-out to the members of a room, built once per change of membership.
        announcements: The joins and leaves that the members of a room are about to be sent.
        histories: The history that a route of this process has declared for a room.
        counters: The numbers of events.

    Args:
        backend: The backend of the rooms.
        limits: The bounds of all connections together.
    """

    def __init__(self, backend: Backend, limits: ServerLimits = DEFAULT_SERVER_LIMITS) -> None:
        super().__init__(backend, limits)
        self.rates = MessageRates(limits.users_per_address)
        self.unsynced: Membership[Connection, Presence] = Membership()
        self.histories: dict[str, History] = {}
        self.tasks = TaskSet()
        memberships = (self.synced, self.unsynced)
        self.commands = CloseCommands(self.connections, self.pending, memberships, self.tasks)
        self.enforcement = Enforcement(backend.restrictions, self.commands)
        self.execute, self.on_restriction = self.commands.execute, self.enforcement.apply
        self.resyncs = Resyncs(self.synced.members, self.tasks)
        self.activities = Activities(backend, self.tasks)
        self.emptied: asyncio.Event | None = None
        senders = (self.pending, self.connections, self.channels)
        self.budget = BufferBudget(limits.buffer_bytes, *senders)

    # Called by the life cycle of a connection.

    def add_pending(self, connection: Connection) -> None:
        """Add a connection whose ``on_connect`` is about to run."""
        self.pending[connection.id] = connection
        self.exclusions.add(connection)
        self.budget.start()

    async def add(self, connection: Connection) -> None:
        """Make an accepted connection visible to others."""
        self.pending.pop(connection.id, None)
        if connection._carrier is connection:
            self.connections[connection.id] = connection
            self.users.add(connection)
        else:
            self.channels[connection.id] = connection
        connection._announcements = self.announcements
        for room in self.synced.rooms_of(connection):
            self.fanouts.pop(room, None)
            self.traffic.enter(connection, room)
        self._drop_since(connection)
        self.heartbeats.add(connection)
        # NOTE: all presence entries are sent before the first response is awaited.
        entered = [
            self.backend.enter_nowait(room, presence)
            for room, presence in self.rooms_of(connection).items()
        ]
        self.resyncs.on_accepted(connection)
        for each in entered:
            await each

    def remove(self, connection: Connection) -> None:
        """Remove a connection at its end; from now on it cannot join a room."""
        self.pending.pop(connection.id, None)
        visible = self.is_visible(connection)
        self.traffic.end(connection)
        if self.connections.pop(connection.id, None) is not None:
            self.counters.closes[end_code(connection.close_code, closed=connection.closed)] += 1
        self.channels.pop(connection.id, None)
        grace = not (isinstance(connection, Channel) and connection.left)
        self.resyncs.late.pop(connection, None)
        self.activities.end_all(connection)
        self.users.remove(connection)
        self.exclusions.remove(connection)
        for room in self.rooms_of(connection):
            presence = self._take_out(connection, room)
            if visible:
                self.backend.leave_nowait(room, presence, grace=grace)
            self.backend.unsubscribe(room)
        if visible:
            self.heartbeats.remove(connection)
        if self.emptied is not None and not self.connections:
            self.emptied.set()

    async def wait_empty(self) -> None:
        """Wait until every connection has ended, as long as their limits allow."""
        self.announcements.flush_all()
        limits = [connection.limits for connection in self.connections.values()]
        seconds = [each.on_disconnect_seconds + each.close_seconds for each in limits]
        if seconds:
            self.emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.emptied.wait(), max(seconds))
        # NOTE: the timers of the last leaves end with the event loop; the next one would wait for them.
        self.announcements.flush_all()

    def on_channel_closed(self, channel: Connection) -> None:
        """Deliver nothing more to a channel: its connection goes on."""
        for room in self.rooms_of(channel):
            self.fanouts.pop(room, None)

    # Called by the manager.

    async def join(self, connection: Connection, room: str, presence: Presence) -> bool:
        """Add a connection to a room: see :meth:`.manager.WebSocketConnectionManager.join_room`."""
        self._check_alive(connection)
        if self.presence_of(connection, room) or connection in self.commands.joining.get(room, ()):
            return False
        check_history(self.histories, connection, room)
        self.commands.begin_join(connection, room)
        try:
            await self._subscribe(connection, room, presence)
        finally:
            self.commands.end_join(connection, room)
        if self.is_visible(connection):
            return await self.backend.enter_nowait(room, presence)
        return connection.user is None or not await self.backend.present(room, connection.user)

    async def _subscribe(self, connection: Connection, room: str, presence: Presence) -> None:
        """Let a connection receive the messages of a room, those that it has missed first."""
        await self.backend.subscribe(room, connection._config.history)
        past = None
        try:
            past = await past_of(self.backend, connection, room, presence.recent)
        except BackendUnavailable:
            pass  # they follow after the outage
        except BaseException:
            self.backend.unsubscribe(room)
            raise
        # NOTE: from here to the position message nothing awaits, or a message could come in between.
        try:
            self._check_alive(connection)
            check_history(self.histories, connection, room)  # another join may have declared one
        except (WebSocketDisconnected, RegistrationError):
            self.backend.unsubscribe(room)
            raise
        self._put_in(connection, room, presence, synced=past is not None)
        if past is not None:
            self.send_past(connection, self.backend.position(room), past)

    async def leave(self, connection: Connection, room: str) -> bool:
        """Remove a connection from a room; return whether its user was visible there and has left."""
        if self.presence_of(connection, room) is None:
            return False
        self.announcements.catch_up_in(room, connection)
        self.traffic.leave(connection, room)
        presence = self._take_out(connection, room)
        left = self.is_visible(connection) and self.backend.leave_nowait(
            room, presence, grace=False
        )
        self.backend.unsubscribe(room)
        return left is not False and await left

    # Called by the backend.

    def on_history_lost(self, room: str) -> None:
        """Send the room's position and ``recovered: false`` to its members: messages are missing before it."""
        self.announcements.flush(room)
        position = self.backend.position(room)
        if position is not None:
            logger.warning("room %r: messages are missing; its clients are notified", room)
            for connection in self.synced.members(room):
                if connection._config.history is not None:
                    send_position(connection, position, recovered=False)
        self.resyncs.start(room)

    def on_members_outdated(self, room: str) -> None:
        """Let the members of a room read the list of members again."""
        self.resyncs.start(room)

    def on_resync(self, room: str) -> None:
        """Send missed messages and the position to connections that joined during an outage."""
        self.announcements.flush(room)
        for connection in self.unsynced.members(room):
            presence = self.unsynced.leave(connection, room)
            past = local_past_of(self.backend, connection, room, presence.recent)
            self._put_in(connection, room, presence, synced=True)
            self.send_past(connection, self.backend.position(room), past)
            self._drop_since(connection)
        self.resyncs.start(room)

    def _check_alive(self, connection: Connection) -> None:
        if not self.is_visible(connection) and connection.id not in self.pending:
            raise WebSocketDisconnected(connection.close_code)

    def presence_of(self, connection: Connection, room: str) -> Presence | None:
        """Return the presence of a connection in a room; ``None`` if it is not a member."""
        return self.rooms_of(connection).get(room)

    def rooms_of(self, connection: Connection) -> dict[str, Presence]:
        """Return the rooms of a connection with its presences."""
        return self.synced.rooms_of(connection) | self.unsynced.rooms_of(connection)

    def _put_in(self, connection: Connection, room: str, presence: Presence, synced: bool) -> None:
        (self.synced if synced else self.unsynced).join(connection, room, presence)
        self.traffic.enter(connection, room)
        self.announcements.skip(connection, room)
        self.fanouts.pop(room, None)
        if connection._config.history is not None:
            self.histories[room] = connection._config.history

    def _take_out(self, connection: Connection, room: str) -> Presence:
        membership = self.synced if self.synced.has(connection, room) else self.unsynced
        presence = membership.leave(connection, room)
        self.fanouts.pop(room, None)
        if room not in self.synced.members_by_room and room not in self.unsynced.members_by_room:
            self.histories.pop(room, None)
            self.traffic.rooms.pop(room, None)
            self.heartbeats.partial.pop(room, None)
        return presence

    def _drop_since(self, connection: Connection) -> None:
        """Drop a client's positions after its first joins: they do not apply to rooms of later joins."""
        if self.is_visible(connection) and not self.unsynced.rooms_of(connection):
            connection._since = ()
