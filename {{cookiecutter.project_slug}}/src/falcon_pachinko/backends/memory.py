"""The backend of a single process: all state is in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path

from ..history import History, Position, last_known
from ..presence import MemberPage
from ..publication import Publication
from .base import Backend, ImmediateResult, Node
from .buffer import DEFAULT_MEMORY_BYTES, HistoryBudget, HistoryBuffer, check_bytes
from .lease import CURRENT_LEASE, check_lease
from .memory_leases import MemoryLeases
from .memory_once import MemoryOnce
from .memory_presence import MemoryPresence
from .memory_restrictions import MemoryRestrictions
from .memory_room import DONE, MemoryRoom
from .once import OnceRun
from .presence import Presence
from .sweep import ExpirySweep
from .tickets import MemoryTickets
from .timing import Timing


class MemoryBackend(MemoryLeases, MemoryRestrictions, MemoryTickets, MemoryOnce, Backend):
    """The backend of a single process.

    Attributes:
        budget: The memory of all histories, and its bound.
        sweep: Frees the messages that are too old.

    Args:
        timing: Only ``grace_seconds`` and ``expiry_seconds`` have an effect.
        history_bytes: The maximum memory of all histories; 64 MiB by default. Above it the oldest messages
            of the largest history are dropped.
        state_file: A JSON file for bans, mutes and revoked sessions, which survive a restart with it; read at the
            start, and replaced at each change.

    Raises:
        ConfigurationError: ``history_bytes`` is not above zero.
    """

    node_id = ""

    def __init__(
        self,
        timing: Timing | None = None,
        *,
        history_bytes: int = DEFAULT_MEMORY_BYTES,
        state_file: Path | None = None,
    ) -> None:
        self.timing = timing or Timing()
        MemoryLeases.__init__(self, self.timing.renewal_seconds)
        MemoryRestrictions.__init__(self, state_file)
        MemoryTickets.__init__(self)
        MemoryOnce.__init__(self)
        self.node: Node
        self.rooms_by_name: dict[str, MemoryRoom] = {}
        self.budget = HistoryBudget(check_bytes(history_bytes), self.on_history_emptied)
        self.sweep = ExpirySweep(self.on_sweep)
        self.presence = MemoryPresence(
            self.rooms_by_name, self.timing.grace_seconds, self.deliver, self.remove_if_unused
        )

    @property
    def history_bytes(self) -> int:
        """The memory of all histories."""
        return self.budget.size_bytes

    @property
    def outage(self) -> str:
        """Empty: memory is always available."""
        return ""

    @property
    def single(self) -> bool:
        """``True``."""
        return True

    async def start(self) -> None:
        """Read the state file, and begin the time in which users return after a restart.

        Raises:
            ConfigurationError: The state file is not valid.
        """
        await self.read_restrictions()
        self.presence.start(self.node.on_members_outdated)

    async def stop(self) -> None:
        """Discard all rooms and their timers."""
        self.sweep.cancel()
        self.budget.drop_restored()
        for room in self.rooms_by_name.values():
            if room.buffer is not None:
                room.buffer.clear()
        self.presence.stop()
        self.rooms_by_name.clear()

    def publish_nowait(
        self,
        room: str,
        publication: Publication,
        *,
        ephemeral: bool = False,
        run: OnceRun | None = None,
    ) -> Awaitable[Position | None]:
        """Deliver at once; store it if the room has a history."""
        lease = CURRENT_LEASE.get()
        if lease is not None:
            check_lease(lease)
        self.deliver(room, publication, ephemeral=ephemeral)
        if run is not None:
            run.published = True
        if (position := publication.position) is None:
            return DONE
        return ImmediateResult(position)

    def deliver(self, room: str, publication: Publication, *, ephemeral: bool = False) -> None:
        """Deliver and store a publication, whichever worker caused it."""
        found = self.rooms_by_name.get(room)
        if found is not None and found.buffer is not None and not ephemeral:
            found.offset += 1
            published_ms = time.time_ns() // 1_000_000
            publication.number(Position(found.epoch, found.offset), published_ms, shown=True)
            found.buffer.add(publication, asyncio.get_running_loop().time())
            if found.sweep_at is None and found.buffer.messages:
                self.plan_sweep(room, found)
        self.node.deliver(room, publication)

    async def publish_direct(self, publication: Publication) -> int:
        """Deliver at once."""
        check_lease(CURRENT_LEASE.get())
        self.node.deliver_direct(publication)
        return 1

    async def command(self, publication: Publication, room: str | None = None) -> None:
        """Execute at once."""
        check_lease(CURRENT_LEASE.get())
        self.node.execute(publication, room, 0.0)

    async def subscribe(self, room: str, history: History | None) -> None:
        """Keep the room, and its history if it has one."""
        found = self.rooms_by_name.get(room)
        if found is None:
            found = self.rooms_by_name[room] = MemoryRoom()
        found.subscriptions += 1
        if history is not None and (found.buffer is None or found.buffer.history != history):
            if found.buffer is not None:
                found.buffer.clear()
            found.sweep_at = None
            found.buffer = HistoryBuffer(history, self.budget, room)

    def unsubscribe(self, room: str) -> None:
        """Remove the room once it is empty and its history has expired."""
        found = self.rooms_by_name.get(room)
        if found is not None:  # None after stop()
            found.subscriptions -= 1
            self.remove_if_unused(room, found)

    def remove_if_unused(self, name: str, room: MemoryRoom) -> None:
        """Remove an unused room, at once or by the sweep after its history has expired."""
        if room.subscriptions or room.roster.entries or room.changes is not None:
            return
        if room.buffer is not None:
            room.buffer.expire(asyncio.get_running_loop().time())
            if room.buffer.messages:
                return
        if self.rooms_by_name.get(name) is room:
            del self.rooms_by_name[name]

    def on_history_emptied(self, name: str) -> None:
        """Remove an unused room whose history was dropped for want of space."""
        found = self.rooms_by_name.get(name)
        if found is not None:
            self.remove_if_unused(name, found)

    def plan_sweep(self, name: str, room: MemoryRoom) -> None:
        """Plan a sweep over a room at the time when its oldest message expires."""
        assert room.buffer is not None
        room.sweep_at = room.buffer.messages[0][0] + room.buffer.history.seconds
        self.sweep.plan(room.sweep_at, name)

    def on_sweep(self, planned_at: float, name: str, now: float) -> None:
        """Free a room's expired messages, with or without members, and remove it if it is unused."""
        self.budget.drop_restored()
        room = self.rooms_by_name.get(name)
        if room is None or room.buffer is None or room.sweep_at != planned_at:
            return  # planned for an earlier room of this name
        room.sweep_at = None
        room.buffer.expire(now)
        if room.buffer.messages:
            self.plan_sweep(name, room)
        else:
            self.remove_if_unused(name, room)

    def position(self, room: str) -> Position | None:
        """Return the position of the last publication."""
        found = self.rooms_by_name.get(room)
        if found is None or found.buffer is None:
            return None
        return Position(found.epoch, found.offset)

    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position."""
        return self.recover_local(room, since)

    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """Return the publications after a position."""
        found, known = self.rooms_by_name.get(room), last_known(self.position(room), since)
        if found is None or found.buffer is None or known is None:
            return None
        until = Position(found.epoch, found.offset)
        return found.buffer.between(known, until, asyncio.get_running_loop().time())

    async def recent(self, room: str, count: int) -> list[Publication]:
        """Return the last publications."""
        return self.recent_local(room, count)

    def recent_local(self, room: str, count: int) -> list[Publication]:
        """Return the last publications."""
        return self._before(room, None, count)

    async def past(self, room: str, before: Position | None, count: int) -> list[Publication]:
        """Return the last publications before a position."""
        return self._before(room, before, count)

    def _before(self, room: str, before: Position | None, count: int) -> list[Publication]:
        found = self.rooms_by_name.get(room)
        if found is None or found.buffer is None:
            return []
        return found.buffer.before(before, count, asyncio.get_running_loop().time())

    def enter_nowait(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Add a connection, and announce the user if it is the first one."""
        return ImmediateResult(self.presence.enter(room, presence))

    async def update(
        self, room: str, presence: Presence, message: Publication | None = None
    ) -> None:
        """Store the record of a connection, and publish a message with it."""
        self.presence.update(room, presence, message)

    def leave_nowait(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection; with the last one, the user leaves at once or after the grace period."""
        return ImmediateResult(self.presence.leave(room, presence, grace=grace))

    async def present(self, room: str, user: str) -> bool:
        """Return whether a user is in a room."""
        return self.presence.present(room, user)

    async def members(
        self, room: str, after: int | str | None = None, limit: int | None = None
    ) -> MemberPage:
        """Return a page of the users in a room in the order in which they joined."""
        return self.presence.members(room, after, limit)

    async def occupancy(self, room: str) -> int:
        """Return the number of users in a room."""
        return self.presence.occupancy(room)

    async def rooms(self, prefix: str) -> list[str]:
        """Return the names of the non-empty rooms that start with a prefix, sorted."""
        return self.presence.rooms(prefix)
