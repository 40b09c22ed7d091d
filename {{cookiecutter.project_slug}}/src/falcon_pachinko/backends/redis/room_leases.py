"""The leases of a node in its rooms: renewed with a digest, restored with the list of its connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ...errors import BackendUnavailable
from ...support.tasks import TaskSet, ignore
from ..presence import Presence
from . import operations
from .operations import Announced, Entered, Joined, Renewal, Renewed, Terms
from .pipeline import Pipeline
from .room_index import RoomIndex
from .room_presence import Ending, RoomPresence
from .script import SUSPICION_MS, hash_tag, room_of

logger = logging.getLogger(__name__)

# An expiry is checked a little later than planned, so that the grace period is over on Redis's clock.
EXPIRY_MARGIN_SECONDS = 0.02


class RoomLeases:
    """The leases of a node in its rooms, and the list of its connections that belongs to each.

    The node has a lease in each room where it has connections, and renews it. Where Redis does not have what
    the node has, it sends the list of its connections; until then the room refuses what it sends.

    Attributes:
        rooms: The rooms with connections of this node.
        recovering: The rooms of which other nodes may not have sent their lists yet after a loss, and until when.
        on_listed: Called with a room after the list was sent.
        on_recovered: Called with a room whose presence was lost, when it is complete again.

    Args:
        pipeline: Executes operations.
        terms: The node, and its durations.
        index: The list of rooms.
        rooms: See above; empty.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        terms: Terms,
        index: RoomIndex,
        rooms: dict[str, RoomPresence],
    ) -> None:
        self.pipeline = pipeline
        self.terms = terms
        self.index = index
        self.rooms = rooms
        self.on_listed: Callable[[str], None]
        self.on_recovered: Callable[[str], None]
        self.recovering: dict[str, float] = {}
        self.tasks = TaskSet()
        pipeline.on_fenced = self.on_fenced

    def node_in(self, room: str) -> str | None:
        """Return the node's name if it has a lease in a room, or has asked for it."""
        state = self.rooms.get(room)
        return self.terms.node if state is not None and state.claimed else None

    def witness_in(self, room: str) -> str | None:
        """Return the node's name unless it has nothing in a room any more: see :func:`.operations.expire_nodes`."""
        return self.terms.node if room in self.rooms else None

    def on_fenced(self, tag: str) -> None:
        """Handle the refusal of an operation: the lease has expired or is lost."""
        self.start_listing(room_of(tag))

    def on_renewed(self, room: str, renewed: Renewed) -> None:
        """Do what the room needs: the list of this node, or the end of another node."""
        state = self.rooms.get(room)
        if state is not None and renewed.version is not None:
            is_outdated = state.version not in (None, renewed.version)
            state.version = renewed.version
            if renewed.recovery:
                self.begin_recovery(room, renewed.recovery)
            elif is_outdated:
                self.on_recovered(room)
        if renewed.renewal is Renewal.LIST:
            self.start_listing(room)
            return
        if not renewed.recovery:
            self.announce_waiting(room)
        if renewed.renewal is Renewal.EXPIRE:
            self.tasks.create_task(self.expire_others(room))

    def on_changed(self, room: str, version: str) -> None:
        """Let the members of a room get a new list after a change without an announcement."""
        state = self.rooms.get(room)
        is_known = state is not None and version and state.version == version
        if state is not None:
            state.version = version
        if not is_known:
            self.on_recovered(room)

    def begin_recovery(self, room: str, ms: int) -> None:
        """Let the members of a room get a new list after the time for which users may be missing from it."""
        ms = min(ms, max(self.terms.recovery, self.terms.period))  # the clock may have jumped back
        until = asyncio.get_running_loop().time() + ms / 1000
        if ms and until > self.recovering.get(room, 0.0) + EXPIRY_MARGIN_SECONDS:
            self.recovering[room] = until
            self._schedule(ms / 1000, self._end_recovery, room, "")

    async def _end_recovery(self, room: str, _: str) -> None:
        if self.recovering.get(room, 0.0) <= asyncio.get_running_loop().time():
            self.recovering.pop(room, None)
            self.announce_waiting(room)
            self.on_recovered(room)

    def start_listing(self, room: str) -> None:
        """Send the list of this node's connections in a room, in the background."""
        state = self.rooms.get(room)
        if state is None:
            # NOTE: the node has left in the meantime: the operations that are held have no effect.
            self.pipeline.release(hash_tag(room))
        elif not state.is_listing:
            state.is_listing = True
            self.pipeline.hold(hash_tag(room))
            self.tasks.create_task(self._send_list(room, state))

    async def _send_list(self, room: str, state: RoomPresence) -> None:
        try:
            if not state.is_empty:
                await self._claim_and_compare(room, state)
        except BackendUnavailable as error:
            # NOTE: the next renewal, or the recovery from the outage, repeats it.
            logger.info("room %r: the list was not sent: %s; retrying", room, error.reason)
            return
        finally:
            state.is_listing = False
            self.pipeline.release(hash_tag(room))
            if state.is_empty:
                # NOTE: those who have left in the meantime were not stored, and release no lease.
                release = operations.release_lease(hash_tag(room), self.terms)
                self.pipeline.submit(release, None, ignore)
        self.on_listed(room)

    async def _claim_and_compare(self, room: str, state: RoomPresence) -> None:
        """Acquire the lease, and make Redis's entries of this node equal to the list.

        Users who were removed because the lease had expired are announced again; after a loss of the presence,
        users who were announced before are not.
        """
        tag, known = hash_tag(room), state.generation
        claim = operations.claim(tag, self.terms, known=known)
        claimed = await self.pipeline.call(claim)
        has_left = not (claimed.kept or claimed.is_lost)
        if claimed.is_lost:
            self.begin_recovery(room, self.terms.recovery)
        # NOTE: a leave that has been refused releases the lease after this; what follows it needs none.
        state.generation, state.claimed = claimed.generation, not state.is_ending
        missing = await self._compare(tag, state)
        calls: list[Awaitable[object]] = []
        for connection in missing:
            presence = state.find(connection)
            if presence is None or connection in state.entering:
                continue
            leaving = state.leaving.get(connection)
            if leaving is not None and (leaving.is_uncertain or not claimed.is_lost):
                # NOTE: it may have left before the loss; all lists are read again after one.
                continue
            if has_left:
                presence.announced, presence.place = False, None
            calls.append(self._enter_again(room, state, presence))
        if claimed.is_lost:
            # NOTE: a user that should have left longer ago has left with this node's lease.
            since = asyncio.get_running_loop().time() - self.terms.lease / 1000
            ending = [
                each
                for each in state.ending.values()
                if each.until > since and not each.is_uncertain
            ]
            calls += [self._end_again(room, state, each) for each in ending]
        await asyncio.gather(*calls)
        if has_left:
            await self.pipeline.call(operations.end_list(tag, self.terms))

    async def _compare(self, tag: str, state: RoomPresence) -> set[str]:
        """Compare the list with Redis, slice by slice; return the ids of the connections to enter again."""
        missing: set[str] = set()
        waiting: set[str] = set()
        for part in list(state.slices()):
            while True:
                compared = await self.pipeline.call(operations.compare(tag, self.terms, *part))
                missing.update(compared.missing)
                waiting.update(compared.waiting)
                if not compared.more:
                    break
        for presence in state.connections.values():
            if presence.connection in missing or not presence.sent:
                continue
            if presence.key not in waiting:
                # NOTE: Redis has stored it and announced the user, though the reply was lost.
                presence.announced = True
            elif presence.announced:
                # NOTE: Redis has lost that the user was announced; entered again, it is listed in silence.
                missing.add(presence.connection)
            else:
                state.waiting.add(presence.key)
        return missing

    async def _enter_again(self, room: str, state: RoomPresence, presence: Presence) -> None:
        enter = operations.enter(hash_tag(room), self.terms, presence, claims=False)
        presence.sent, presence.sent_version = True, presence.version
        try:
            entered = await self.pipeline.call(enter)
        except BackendUnavailable:
            state.waiting.add(presence.key)
            raise
        self.on_entered(room, state, presence, entered)

    async def _end_again(self, room: str, state: RoomPresence, ending: Ending) -> None:
        """Store a user in the grace period again."""
        if any(presence.key == ending.presence.key for presence in state.connections.values()):
            return
        rest = max(ending.until - asyncio.get_running_loop().time(), 0.001)
        leave = operations.leave(
            hash_tag(room), self.terms, ending.presence, grace=round(rest * 1000), is_last=False
        )
        await self._enter_again(room, state, ending.presence)
        await self.pipeline.call(leave)

    async def expire_others(self, room: str) -> None:
        """Remove the users of expired nodes from a room."""
        witness = self.witness_in(room)
        operation = operations.expire_nodes(hash_tag(room), self.terms, node=witness)
        try:
            while await self.pipeline.call(operation):
                pass
        except BackendUnavailable:
            pass  # the next renewal continues

    def on_entered(
        self, room: str, state: RoomPresence, presence: Presence, entered: Entered
    ) -> bool:
        """Record what Redis has stored; return whether it is the user's first connection."""
        presence.place, presence.announced = entered.place, not entered.waits
        if state.version is None:
            state.version = entered.version
        if entered.recovery > SUSPICION_MS:
            self.begin_recovery(room, entered.recovery)
        if entered.generation != state.generation and state.generation:
            self.start_listing(room)
        else:
            state.generation = entered.generation
        if entered.waits:
            state.waiting.add(presence.key)
            if entered.recovery <= SUSPICION_MS:  # a longer one ends with on_recovered()
                self._schedule(entered.recovery / 1000, self._announce, room, presence.key)
        return entered.joined is Joined.FIRST

    def announce_waiting(self, room: str) -> None:
        """Announce the users of a room whose announcement may wait, now that the recovery may be over."""
        state = self.rooms.get(room)
        for key in () if state is None else tuple(state.waiting):
            self._announce_nowait(room, key)

    async def _announce(self, room: str, key: str) -> None:
        self._announce_nowait(room, key)

    def _announce_nowait(self, room: str, key: str) -> None:
        """Announce a user that has joined during the recovery of a room; the next renewal repeats what fails."""
        state = self.rooms.get(room)
        if state is None or key not in state.waiting:
            return
        state.waiting.remove(key)

        # NOTE: the reply is processed at once, before that of a later enter of the same user.
        def on_reply(announced: Announced) -> None:
            if announced is Announced.LATER:
                state.waiting.add(key)
            if announced is Announced.UNKNOWN:
                return  # its enter, or the list of this node, is on its way
            for presence in state.connections.values():
                if presence.key == key:
                    presence.announced = announced is Announced.DONE

        def on_failure(error: BackendUnavailable) -> None:
            state.waiting.add(key)

        self.pipeline.submit(operations.announce(hash_tag(room), key), on_reply, on_failure)

    def _schedule(
        self, seconds: float, action: Callable[[str, str], Awaitable[None]], room: str, key: str
    ) -> None:
        async def run() -> None:
            await action(room, key)

        self.tasks.call_later(
            seconds + EXPIRY_MARGIN_SECONDS, lambda: self.tasks.create_task(run())
        )
