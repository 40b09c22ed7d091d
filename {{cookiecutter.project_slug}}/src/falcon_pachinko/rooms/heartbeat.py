"""Heartbeats: ``serverPosition`` repeated to idle clients, so that they detect a dead connection or a gap."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from itertools import islice

from ..backends.base import Backend
from ..backends.presence import Presence
from ..connection.carrier import Channels
from ..connection.connection import Connection
from ..connection.state import OPEN
from ..history import Position
from ..publication import Publication
from ..support.tasks import call_later
from .fanout import FanOut
from .membership import Membership
from .recovery import positions_message, repeated_position_message

# Two checks of a connection fit in its interval, with some time to spare for late timers.
CHECKS_PER_INTERVAL = 1 / 0.45
# The maximum number of connections that are checked at once, about 1 ms of work if all of them are idle.
MAX_BATCH = 100
# The precision of `now`, as a part of the time between two checks of a connection.
MIN_BATCHES = 10


class HeartbeatSweep:
    """The checks of all connections with one interval, a batch at a time.

    Args:
        seconds: The interval.
    """

    __slots__ = ("batch_size", "count", "ids", "number", "pause_seconds", "seconds", "timer")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.count = 0
        self.number = 0
        # NOTE: ids, so that an ended connection is not kept until the end of a sweep.
        self.ids: list[str] = []
        self.batch_size = 0
        self.pause_seconds = seconds / CHECKS_PER_INTERVAL / MIN_BATCHES
        self.timer: asyncio.TimerHandle | None = None

    @property
    def check_seconds(self) -> float:
        """The time between two checks of a connection."""
        return self.seconds / CHECKS_PER_INTERVAL

    def next_batch(self, connections: Mapping[str, object]) -> list[str]:
        """Return the ids of the connections to be checked now."""
        if not self.ids:
            self.ids = list(connections)
            self.number += 1
            batches = max(MIN_BATCHES, math.ceil(len(self.ids) / MAX_BATCH))
            self.batch_size = math.ceil(len(self.ids) / batches)
            # NOTE: a few connections need fewer batches.
            batches = math.ceil(len(self.ids) / self.batch_size)
            self.pause_seconds = self.check_seconds / batches
        batch = self.ids[-self.batch_size :]
        del self.ids[-self.batch_size :]
        return batch


class Heartbeats:
    """Sends a heartbeat to each client that has received nothing for its route's ``heartbeat_seconds``.

    A client gets at least one message in this time, up to half as much again while many clients connect. A
    message that excludes members of its room counts as a message to none of them. A client that does not read
    or is being closed gets no heartbeat. A connection that is in several rooms gets one for all of them, whether or not
    their messages have been sent to it. One timer per interval serves all connections of the process.

    Attributes:
        now: The time of the last check on the event loop's clock: the time of a message to a room.

    Args:
        connections: The accepted connections of this process by id.
        synced: The rooms of connections that receive live messages.
        fanouts: The fan-out of each room.
        backend: Knows the positions of the rooms.
    """

    __slots__ = ("backend", "connections", "fanouts", "now", "partial", "sweeps", "synced")

    def __init__(
        self,
        connections: Mapping[str, Connection],
        synced: Membership[Connection, Presence],
        fanouts: Mapping[str, FanOut],
        backend: Backend,
    ) -> None:
        self.connections = connections
        self.synced = synced
        self.fanouts = fanouts
        self.backend = backend
        self.now = 0.0
        self.sweeps: dict[float, HeartbeatSweep] = {}
        # Per room, the last positions of which some members have no message: from (exclusive) and until.
        self.partial: dict[str, tuple[Position, Position]] = {}

    def add(self, connection: Connection) -> None:
        """Include an accepted connection, if its route has heartbeats."""
        seconds = connection._config.heartbeat_interval
        if seconds is None:
            return
        sweep = self.sweeps.get(seconds)
        if sweep is None:
            sweep = self.sweeps[seconds] = HeartbeatSweep(seconds)
            self._call_later(sweep)
        sweep.count += 1
        if connection._config.history is None:
            connection._deliver(repeated_position_message(None, seconds))

    def remove(self, connection: Connection) -> None:
        """Exclude a connection that was added."""
        seconds = connection._config.heartbeat_interval
        if seconds is None:
            return
        sweep = self.sweeps[seconds]
        sweep.count -= 1
        if not sweep.count:
            del self.sweeps[seconds]
            if sweep.timer is not None:
                sweep.timer.cancel()

    def on_partial_delivery(self, room: str, position: Position | None) -> None:
        """Note that some members have not received the message at a position, or not its position."""
        if position is None:
            return
        before = Position(position.epoch, position.offset - 1)
        start, until = self.partial.get(room, (before, before))
        self.partial[room] = (start if until == before else before, position)

    def repeated_position(self, room: str) -> Position | None:
        """Return the last position up to which each member has received all messages meant for it.

        A client with a lower position of its own has missed a message.
        """
        position = self.backend.position(room)
        start, until = self.partial.get(room, (None, None))
        return start if until is not None and until == position else position

    def _call_later(self, sweep: HeartbeatSweep) -> None:
        loop = asyncio.get_running_loop()
        sweep.timer = call_later(loop, sweep.pause_seconds, self._check_batch, sweep)

    def _check_batch(self, sweep: HeartbeatSweep) -> None:
        """Check some connections, and send a heartbeat to those that are idle."""
        self.now = asyncio.get_running_loop().time()
        ids = sweep.next_batch(self.connections)
        self._call_later(sweep)
        # NOTE: `now` may have been late by one pause when it became the time of a message.
        active_since = self.now - sweep.check_seconds * (1 + 1 / MIN_BATCHES)
        # PERF: the message of a room is encoded once for all connections of the batch.
        made: dict[str | None, Publication] = {}
        for connection_id in ids:
            connection = self.connections.get(connection_id)
            if (
                connection is not None
                and connection._config.heartbeat_interval == sweep.seconds
                and self._is_idle(connection, active_since)
            ):
                if connection._channels is not None:
                    positions = self._positions_in(connection._channels)
                    connection._deliver(positions_message(positions, sweep.seconds))
                    continue
                room = self._room_of(connection, sweep.number)
                publication = made.get(room)
                if publication is None:
                    position = None if room is None else self.repeated_position(room)
                    publication = repeated_position_message(position, sweep.seconds)
                    made[room] = publication
                connection._deliver(publication)

    def _is_idle(self, connection: Connection, active_since: float) -> bool:
        """Return whether a client waits for messages and has received none since its last check."""
        outbox = connection._outbox
        if connection.state is not OPEN or outbox.waiting:
            return False
        if outbox.used:
            outbox.used = False
            return False
        for room in self.synced.rooms_by_member.get(connection, ()):
            fanout = self.fanouts.get(room)
            if fanout is not None and fanout.sent_at >= active_since:
                return False
        return True

    def _positions_in(self, channels: Channels) -> dict[str, list[str]]:
        """Return the positions of all rooms with history of a client, by its names of them."""
        found: dict[str, list[str]] = {}
        for name, channel in channels.names().items():
            if channel._config.history is not None:
                rooms = self.synced.rooms_by_member.get(channel, ())
                positions = [each for room in rooms if (each := self.repeated_position(room))]
                found[name] = [str(position) for position in positions]
        return found

    def _room_of(self, connection: Connection, sweep_number: int) -> str | None:
        """Return one of a connection's rooms with history, another one each time; ``None`` without one."""
        rooms = self.synced.rooms_by_member.get(connection)
        if not rooms or connection._config.history is None:
            return None
        # NOTE: an idle client gets a heartbeat in every second sweep.
        return next(islice(rooms, sweep_number // 2 % len(rooms), None))
