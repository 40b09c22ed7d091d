"""The backend of a single process: all state is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from ..history import History, Position, last_known
from ..presence import MemberPage, not_a_member
from ..publication import Publication
from .base import CURRENT_LEASE, Backend, ImmediateResult, Node, Timing, check_lease
from .buffer import DEFAULT_MEMORY_BYTES, HistoryBudget, HistoryBuffer, check_bytes
from .memory_leases import MemoryLeases
from .memory_room import DONE, ONE_NODE, MemoryRoom
from .presence import Presence
from .roster import PresenceChanges
from .sweep import ExpirySweep


class MemoryBackend(MemoryLeases, Backend):
    """The backend of a single process.

    Attributes:
        budget: The memory of all histories, and its bound.
        sweep: Frees the messages that are too old.

    Args:
        timing: Only ``grace_seconds`` and ``heartbeat_seconds`` have an effect.
        history_bytes: The maximum memory of all histories; 64 MiB by default. Above it the oldest messages
            of the largest history are dropped.

    Raises:
        ConfigurationError: ``history_bytes`` is not above zero.
    """

    node_id = ""

    def __init__(
        self, timing: Timing | None = None, *, history_bytes: int = DEFAULT_MEMORY_BYTES
    ) -> None:
        self.timing = timing or Timing()
        super().__init__(self.timing.heartbeat_seconds)
        self.node: Node
        self.rooms_by_name: dict[str, MemoryRoom] = {}
        self.budget = HistoryBudget(check_bytes(history_bytes), self.on_history_emptied)
        self.sweep = ExpirySweep(self.on_sweep)

    @property
    def outage(self) -> str:
        """Empty: memory is always available."""
        return ""

    @property
    def single(self) -> bool:
        """``True``."""
        return True

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Discard all rooms and their timers."""
        self.sweep.cancel()
        self.budget.drop_restored()
        for room in self.rooms_by_name.values():
            if room.buffer is not None:
                room.buffer.clear()
            if room.changes is not None:
                room.changes.timer.cancel()
            for entry in room.roster.entries.values():
                entry.cancel_expiry()
        self.rooms_by_name.clear()

    def publish(
        self, room: str, publication: Publication, *, ephemeral: bool = False
    ) -> Awaitable[None]:
        """Deliver at once; store it if the room has a history."""
        check_lease(CURRENT_LEASE.get())
        self.deliver(room, publication, ephemeral=ephemeral)
        return DONE

    def deliver(self, room: str, publication: Publication, *, ephemeral: bool = False) -> None:
        """Deliver and store a publication, whichever worker caused it."""
        found = self.rooms_by_name.get(room)
        if found is not None and found.buffer is not None and not ephemeral:
            found.offset += 1
            publication.number(Position(found.epoch, found.offset), shown=True)
            found.buffer.add(publication, asyncio.get_running_loop().time())
            if found.sweep_at is None and found.buffer.messages:
                self.plan_sweep(room, found)
        self.node.deliver(room, publication)

    def publish_direct(self, publication: Publication) -> Awaitable[int]:
        """Deliver at once."""
        check_lease(CURRENT_LEASE.get())
        self.node.deliver_direct(publication)
        return ONE_NODE

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

    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Add a connection, and announce the user if it is the first one."""
        found = self.rooms_by_name[room]
        entry = found.roster.entries.get(presence.key)
        is_first = entry is None
        if entry is None:
            entry = found.roster.add(presence.key, presence.user)
        entry.cancel_expiry()
        entry.connections.add(presence.connection)
        entry.leave_message = presence.leave_message or entry.leave_message
        if found.changes is not None:
            found.changes.leaving.pop(presence.key, None)
        if is_first and presence.join_message is not None:
            changes = self.changes_for(room, found, presence)
            if changes is not None:
                changes.joined[presence.key] = None
            else:
                self.deliver(room, presence.join_message)
        return ImmediateResult(is_first)

    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection; with the last one, the user leaves at once or after the grace period."""
        found = self.rooms_by_name.get(room)
        entry = found.roster.entries.get(presence.key) if found is not None else None
        if found is None or entry is None or presence.connection not in entry.connections:
            return ImmediateResult(False)
        entry.connections.discard(presence.connection)
        if entry.connections:
            return ImmediateResult(False)
        seconds = self.timing.grace_seconds
        if grace and presence.has_messages and seconds:
            loop = asyncio.get_running_loop()
            entry.expiry = loop.call_later(seconds, self.expire_presence, room, found, presence)
            return ImmediateResult(False)
        self.expire_presence(room, found, presence)
        return ImmediateResult(True)

    def expire_presence(self, name: str, room: MemoryRoom, presence: Presence) -> None:
        """Let a user leave a room: announce it now, or with the next batch."""
        entry = room.roster.entries[presence.key]
        entry.expiry = None
        is_announced = entry.leave_message is not None
        changes = self.changes_for(name, room, presence) if is_announced else room.changes
        if changes is not None:
            if is_announced and changes.leave(presence.key):
                return
            changes.joined.pop(presence.key, None)
        room.roster.remove(presence.key)
        if entry.leave_message is not None and changes is None:
            self.deliver(name, entry.leave_message)
        self.remove_if_unused(name, room)

    def changes_for(
        self, name: str, room: MemoryRoom, presence: Presence
    ) -> PresenceChanges | None:
        """Return the changes of the room that the next batch announces; ``None`` to announce one at once.

        The first change above the bound begins a batch. Until it is published, the changes of all users
        belong to it, so that they arrive in order.
        """
        batch = presence.batch
        if presence.user is None:
            return None
        if room.changes is None and batch is not None and room.roster.count > batch.above:
            room.changes = PresenceChanges(batch)
            room.changes.timer = asyncio.get_running_loop().call_later(
                batch.seconds, self.publish_changes, name, room
            )
        return room.changes

    def publish_changes(self, name: str, room: MemoryRoom) -> None:
        """Publish a batch of joins and leaves."""
        changes, room.changes = room.changes, None
        message = changes.take_message(room.roster) if changes is not None else None
        if message is not None:
            self.deliver(name, Publication(message))
        self.remove_if_unused(name, room)

    async def present(self, room: str, user: str) -> bool:
        """Return whether a user is in a room."""
        found = self.rooms_by_name.get(room)
        return found is not None and f"u{user}" in found.roster.entries

    async def members(
        self, room: str, after: int | str | None = None, limit: int | None = None
    ) -> MemberPage:
        """Return a page of the users in a room in the order in which they joined."""
        found = self.rooms_by_name.get(room)
        if isinstance(after, str):
            entry = None if found is None else found.roster.entries.get(f"u{after}")
            if entry is None:
                raise not_a_member(room, after)
            after = entry.number
        if found is None:
            return MemberPage((), 0, None)
        page = found.roster.page(after or 0, limit)
        if found.changes is not None:
            found.changes.on_page(page)
        return page

    async def member_count(self, room: str) -> int:
        """Return the number of users in a room."""
        found = self.rooms_by_name.get(room)
        if found is None:
            return 0
        if found.changes is not None:
            found.changes.was_counted = True
        return found.roster.count

    async def rooms(self, prefix: str) -> list[str]:
        """Return the names of the non-empty rooms that start with a prefix, sorted."""
        return sorted(
            name
            for name, room in self.rooms_by_name.items()
            if room.roster.entries and name.startswith(prefix)
        )
