"""The presence of the memory backend: the users of each room, their grace periods and batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..presence import ChangeKind, MemberChange, MemberPage, not_a_member
from ..publication import Publication
from .memory_room import MemoryRoom
from .presence import Presence
from .roster import PresenceChanges

# Called with the name of a room.
OnRoom = Callable[[str], None]


class MemoryPresence:
    """The users in the rooms of a process.

    Attributes:
        restarted_until: Until this time on the event loop's clock, users that reconnect with a position were in
            their rooms before the process restarted: they are not announced again.

    Args:
        rooms: The rooms by name.
        grace_seconds: How long a user remains present after the last connection has ended.
        publish: Publishes to a room.
        remove_if_unused: Called with a room in which an entry was removed.
    """

    def __init__(
        self,
        rooms: dict[str, MemoryRoom],
        grace_seconds: float,
        publish: Callable[[str, Publication], object],
        remove_if_unused: Callable[[str, MemoryRoom], None],
    ) -> None:
        self.rooms_by_name = rooms
        self.grace_seconds = grace_seconds
        self.publish = publish
        self.remove_if_unused = remove_if_unused
        self.on_outdated: OnRoom
        self.restarted_until = 0.0
        self.reentered: set[str] = set()

    def start(self, on_outdated: OnRoom) -> None:
        """Begin; ``on_outdated`` is called for rooms whose users have reconnected without an announcement."""
        self.on_outdated = on_outdated
        self.restarted_until = asyncio.get_running_loop().time() + self.grace_seconds

    def stop(self) -> None:
        """End all timers."""
        for room in self.rooms_by_name.values():
            if room.changes is not None:
                room.changes.timer.cancel()
            for entry in room.roster.entries.values():
                entry.cancel_expiry()

    def enter(self, room: str, presence: Presence) -> bool:
        """Add a connection, and announce the user if it is the first one; return whether it is."""
        found = self.rooms_by_name[room]
        entry = found.roster.entries.get(presence.key)
        is_first = entry is None
        if entry is None:
            entry = found.roster.add(presence.key, presence.user)
        entry.cancel_expiry()
        entry.connections.add(presence.connection)
        entry.set_record(presence.connection, presence.record)
        entry.leave_message = presence.leave_message or entry.leave_message
        if presence.batch is not None and presence.join_message is not None:
            entry.join_data = presence.join_message.data
        if found.changes is not None:
            found.changes.leaving.pop(presence.key, None)
        if is_first and not self._is_reentry(room, presence):
            self._announce(room, found, presence)
        return is_first

    def _announce(self, name: str, room: MemoryRoom, presence: Presence) -> None:
        if presence.join_message is None:
            return
        changes = self.changes_for(name, room, presence)
        if changes is not None:
            changes.joined[presence.key] = None
        else:
            presence.join_message.change = MemberChange(name, presence.user, ChangeKind.JOINED)
            self.publish(name, presence.join_message)

    def _is_reentry(self, room: str, presence: Presence) -> bool:
        """Return whether a user was in the room before a restart; the members then read the list later."""
        loop = asyncio.get_running_loop()
        if not presence.reconnects or loop.time() >= self.restarted_until:
            return False
        if room not in self.reentered:
            self.reentered.add(room)
            loop.call_at(self.restarted_until, self._end_reentry, room)
        return True

    def _end_reentry(self, room: str) -> None:
        self.reentered.discard(room)
        self.on_outdated(room)

    def update(self, room: str, presence: Presence, message: Publication | None) -> None:
        """Store the record of a connection, then publish a message."""
        found = self.rooms_by_name.get(room)
        entry = found.roster.entries.get(presence.key) if found is not None else None
        if entry is not None and presence.connection in entry.connections:
            entry.set_record(presence.connection, presence.record)
        if message is not None:
            message.change = MemberChange(room, presence.user, ChangeKind.UPDATED)
            self.publish(room, message)

    def leave(self, room: str, presence: Presence, *, grace: bool) -> bool:
        """Remove a connection; with the last one, the user leaves at once or after the grace period.

        Returns:
            Whether the user has left at once.
        """
        found = self.rooms_by_name.get(room)
        entry = found.roster.entries.get(presence.key) if found is not None else None
        if found is None or entry is None or presence.connection not in entry.connections:
            return False
        entry.connections.discard(presence.connection)
        entry.set_record(presence.connection, None)
        if entry.connections:
            return False
        seconds = self.grace_seconds + presence.wait_seconds
        if grace and presence.has_messages and seconds:
            loop = asyncio.get_running_loop()
            entry.expiry = loop.call_later(seconds, self.expire_presence, room, found, presence)
            return False
        self.expire_presence(room, found, presence)
        return True

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
            entry.leave_message.change = MemberChange(name, presence.user, ChangeKind.LEFT)
            self.publish(name, entry.leave_message)
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
            self.publish(name, Publication(message))
        self.remove_if_unused(name, room)

    def present(self, room: str, user: str) -> bool:
        """Return whether a user is in a room."""
        found = self.rooms_by_name.get(room)
        return found is not None and f"u{user}" in found.roster.entries

    def members(self, room: str, after: int | str | None, limit: int | None) -> MemberPage:
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

    def occupancy(self, room: str) -> int:
        """Return the number of users in a room."""
        found = self.rooms_by_name.get(room)
        if found is None:
            return 0
        if found.changes is not None:
            found.changes.was_counted = True
        return found.roster.count

    def rooms(self, prefix: str) -> list[str]:
        """Return the names of the non-empty rooms that start with a prefix, sorted."""
        return sorted(
            name
            for name, room in self.rooms_by_name.items()
            if room.roster.entries and name.startswith(prefix)
        )
