"""The presence of a node's connections, kept locally and stored in Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from ...errors import BackendUnavailable, OperationRefused
from ...history import Position
from ...publication import Publication
from ...support.tasks import ignore
from ..base import ImmediateResult
from ..presence import Presence
from . import operations
from .operations import Departure, Entered
from .room_leases import RoomLeases
from .room_presence import Ending, Leaving, RoomPresence
from .script import hash_tag

logger = logging.getLogger(__name__)

# An expiry is checked a little later than planned, so that the grace period is over on Redis's clock.
EXPIRY_MARGIN_SECONDS = 0.02


class PresenceTable(RoomLeases):
    """The presence of a node's connections; see :class:`.room_leases.RoomLeases`."""

    # Joining.

    def enter_nowait(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Add a connection to a room; the handle tells whether it is the user's first one."""
        state = self.rooms.get(room)
        if state is None:
            state = self.rooms[room] = RoomPresence()
            self.index.add(room)
        state.connections[presence.connection] = presence
        if self.pipeline.outage:
            return ImmediateResult(state.is_only(presence))
        return self._send_enter_nowait(room, state, presence)

    def _send_enter_nowait(
        self, room: str, state: RoomPresence, presence: Presence
    ) -> asyncio.Future[bool]:
        def on_failure(error: BackendUnavailable) -> bool:
            state.entering.discard(presence.connection)
            state.waiting.add(presence.key)
            return state.is_only(presence)

        def on_reply(entered: Entered) -> bool:
            state.entering.discard(presence.connection)
            return self.on_entered(room, state, presence, entered)

        claims, state.claimed = not state.claimed, True
        state.entering.add(presence.connection)
        presence.sent, presence.sent_version = True, presence.version
        operation = operations.enter(hash_tag(room), self.terms, presence, claims=claims)
        return self.pipeline.submit(operation, on_reply, on_failure)

    # Records.

    def update_nowait(self, room: str, presence: Presence) -> Awaitable[None]:
        """Store the record of a connection; after an outage, if Redis is unavailable."""
        state = self.rooms.get(room)
        is_here = state is not None and presence.connection in state.connections
        if not is_here or self.pipeline.outage:
            return ImmediateResult(None)
        presence.sent_version = presence.version
        operation = operations.update(hash_tag(room), self.terms, presence, None)
        # NOTE: a failure leaves another digest in Redis: the next renewal or the recovery repeats it.
        return self.pipeline.submit(operation, ignore, ignore)

    async def update_with_message(
        self,
        room: str,
        presence: Presence,
        message: Publication,
        on_position: Callable[[Position], object],
    ) -> None:
        """Store the record of a connection, and publish a message."""
        presence.sent_version = presence.version
        operation = operations.update(hash_tag(room), self.terms, presence, message.encode())
        await self.pipeline.submit(operation, on_position)

    # Leaving.

    def leave_nowait(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection from a room; the handle tells whether the user has left with it."""
        state = self.rooms.get(room)
        entered = None if state is None else state.connections.pop(presence.connection, None)
        if state is None or entered is None:
            return ImmediateResult(False)
        if self.pipeline.outage:
            if entered.sent:
                state.leaving[presence.connection] = Leaving(entered, grace)
            self._discard_if_empty(room, state)
            return ImmediateResult(not grace and state.is_only(presence))
        return self._send_leave_nowait(room, state, Leaving(entered, grace))

    def _send_leave_nowait(
        self, room: str, state: RoomPresence, leaving: Leaving, seconds: float | None = None
    ) -> asyncio.Future[bool]:
        presence, grace, is_repeated = leaving
        state.leaving[presence.connection] = leaving
        if seconds is None:
            seconds = self._grace_seconds_of(leaving)
        ms = round(seconds * 1000)
        # NOTE: earlier leaves that are not confirmed take effect before this one.
        is_last = state.is_ending
        if is_last:
            state.claimed = False

        def forget() -> None:
            # NOTE: the connection may have joined again since, and left again.
            if state.leaving.get(presence.connection) is leaving:
                del state.leaving[presence.connection]

        def on_reply(departure: Departure) -> bool:
            forget()
            if is_last and departure is not Departure.GRACE:
                state.generation = ""
            if departure is Departure.GRACE:
                state.claimed = True
                until = asyncio.get_running_loop().time() + seconds
                state.ending[presence.key] = Ending(presence, until)
                self._schedule(seconds, self._expire, room, presence.key)
            self._discard_if_empty(room, state)
            return departure is Departure.LEFT

        def on_failure(error: BackendUnavailable) -> bool:
            if isinstance(error, OperationRefused):
                forget()
                self._discard_if_empty(room, state)
            elif not ms and state.leaving.get(presence.connection) is leaving:
                state.leaving[presence.connection] = leaving._replace(is_uncertain=True)
            return not grace and state.is_only(presence)

        operation = operations.leave(
            hash_tag(room),
            self.terms,
            presence,
            grace=ms,
            is_last=is_last,
            is_repeated=is_repeated,
        )
        return self.pipeline.submit(operation, on_reply, on_failure)

    async def _expire(self, room: str, key: str) -> None:
        """Remove a user after the grace period, unless another connection has joined."""
        state = self.rooms.get(room)
        if state is None or key not in state.ending:
            return
        rest = state.ending[key].until - asyncio.get_running_loop().time()
        if rest > 0:  # a later grace period
            self._schedule(rest, self._expire, room, key)
            return
        ending = state.ending[key]
        state.expiring.add(key)
        is_last = state.is_ending
        if is_last:
            state.claimed = False

        # NOTE: the reply is processed at once, before that of a later leave of the same user.
        def on_reply(still_runs: bool) -> None:
            state.expiring.discard(key)
            if still_runs:
                state.claimed = True
                self._schedule(EXPIRY_MARGIN_SECONDS, self._expire, room, key)
                return
            if is_last:
                state.generation = ""
            if state.ending.get(key) is ending:
                del state.ending[key]
            self._discard_if_empty(room, state)

        def on_failure(error: BackendUnavailable) -> None:
            is_refused = isinstance(error, OperationRefused)
            if not is_refused and state.ending.get(key) is ending:
                state.ending[key] = ending._replace(is_uncertain=True)
            on_reply(not is_refused)

        operation = operations.expire(
            hash_tag(room), self.terms, key, is_last=is_last, is_repeated=ending.is_uncertain
        )
        await self.pipeline.submit(operation, on_reply, on_failure)

    def _grace_seconds_of(self, leaving: Leaving) -> float:
        """Return how long a user remains present after the connection."""
        presence, grace, _ = leaving
        stays = grace and presence.has_messages
        return self.terms.grace / 1000 + presence.wait_seconds if stays else 0.0

    def longest_grace_seconds(self, room: str) -> float:
        """Return the time until all users whose last connection was in a room of this node have left."""
        state, now = self.rooms[room], asyncio.get_running_loop().time()
        rests = [ending.until - now for ending in state.ending.values()]
        rests += map(self._grace_seconds_of, state.leaving.values())
        return max(rests, default=0.0)

    def _discard_if_empty(self, room: str, state: RoomPresence) -> None:
        if state.is_empty and self.rooms.get(room) is state:
            del self.rooms[room]
            self.index.remove(room)

    def connections_in(self, room: str) -> Iterable[Presence]:
        """Return the connections of this node in a room."""
        state = self.rooms.get(room)
        return () if state is None else state.connections.values()

    def send_leaves(self) -> None:
        """Submit the leaves of an outage, and those whose outcome it has made unknown."""
        for room, state in list(self.rooms.items()):
            for leaving in list(state.leaving.values()):
                self._send_leave_nowait(room, state, leaving)

    def send_changes(self) -> None:
        """Submit what has changed during the recovery from an outage."""
        self.send_leaves()
        for room, state in list(self.rooms.items()):
            for presence in list(state.connections.values()):
                if not presence.sent:
                    self._send_enter_nowait(room, state, presence)
                elif presence.sent_version != presence.version:
                    self.update_nowait(room, presence)
