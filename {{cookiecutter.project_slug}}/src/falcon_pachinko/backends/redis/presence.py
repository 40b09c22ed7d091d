"""The presence of a node's connections, kept locally and stored in Redis or Valkey."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable

from ...errors import BackendUnavailable, OperationRefused
from ...presence import MemberPage
from ...support.tasks import TaskSet, ignore
from ..base import ImmediateResult
from ..presence import Presence, page_of
from .pipeline import Pipeline, wait_all
from .script import NODES, chunks, hash_tag, raw, rooms_with_prefix

# An expiry is checked a little later than planned, so that the grace period is over on Redis's clock.
EXPIRY_MARGIN_SECONDS = 0.02


class PresenceTable:
    """The presence of a node's connections.

    Attributes:
        incarnation: The name of the node in Redis; a new one after Redis has lost or evicted the node.
        local: The presence of this node's connections, by room and connection.
        expiring: For each room, the number of entries that this node expires after their grace period.
        unsent_leaves: Connections that left while Redis was unavailable.
        refused: Rooms where Redis has refused to store a presence.
        unused_rooms: Rooms that Redis has in this node's list, but the node does not use.

    Args:
        pipeline: Executes operations.
        grace_seconds: How long a user remains present after the last connection has ended.
    """

    incarnation: str

    def __init__(self, pipeline: Pipeline, grace_seconds: float) -> None:
        self.pipeline = pipeline
        self.grace_seconds = grace_seconds
        self.local: dict[str, dict[str, Presence]] = {}
        self.expiring: dict[str, int] = {}
        self.unsent_leaves: list[tuple[str, Presence, bool]] = []
        self.refused: set[str] = set()
        self.unused_rooms: set[str] = set()
        self.tasks = TaskSet()

    def reset(self, incarnation: str) -> None:
        """Take a new name in Redis, under which nothing is stored."""
        self.incarnation = incarnation
        for presences in self.local.values():
            for presence in presences.values():
                presence.stored = presence.announced = False

    def reenter(self, room: str) -> None:
        """Store the presence of a room again, which Redis may have lost."""
        for presence in self.local.get(room, {}).values():
            presence.stored = presence.announced = False
            if not self.pipeline.outage:
                self.send_enter(room, presence)

    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Add a connection to a room; return whether it is the user's first one."""
        others = self.local.setdefault(room, {})
        if not others and room not in self.expiring:
            self.pipeline.call_ignoring_outcome("add_rooms", NODES, self.incarnation, [room])
        others[presence.connection] = presence
        if self.pipeline.outage:
            return ImmediateResult(self.is_only_connection(room, presence))
        return self.send_enter(room, presence)

    def is_only_connection(self, room: str, presence: Presence) -> bool:
        """Return whether the user has no other connection in the room here; the answer during an outage."""
        others = self.local.get(room, {}).values()
        return all(other.key != presence.key or other is presence for other in others)

    def send_enter(self, room: str, presence: Presence) -> asyncio.Future[bool]:
        """Store a presence."""

        def on_result(is_first: int) -> bool:
            presence.stored = presence.announced = True
            return is_first == 1

        def on_failure(error: BackendUnavailable) -> bool:
            if isinstance(error, OperationRefused):
                self.refused.add(room)
            return self.is_only_connection(room, presence)

        joined, left = presence.join_message, presence.leave_message
        presence.sent = True
        operation = (
            "enter",
            hash_tag(room),
            presence.key,
            presence.connection,
            self.incarnation,
            None if joined is None or presence.announced else raw(joined.encode()),
            None if left is None else raw(left.encode()),
        )
        return self.pipeline.submit(operation, on_result, on_failure)

    def retry_refused(self) -> None:
        """Store again what Redis has refused."""
        rooms, self.refused = self.refused, set()
        for room in rooms:
            for presence in self.local.get(room, {}).values():
                if not presence.stored:
                    self.send_enter(room, presence)

    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Remove a connection from a room; return whether the user has left with it."""
        others = self.local.get(room, {})
        entered = others.pop(presence.connection, None)
        if entered is None:
            return ImmediateResult(False)
        if self.pipeline.outage:
            if entered.sent:
                self.unsent_leaves.append((room, presence, grace))
            self.discard_if_unused(room)
            return ImmediateResult(not grace and self.is_only_connection(room, presence))
        return self.send_leave(room, presence, grace)

    def send_leave(self, room: str, presence: Presence, grace: bool) -> asyncio.Future[bool]:
        """Remove a presence; after a failure, send it again when the outage is over."""
        grace_ms = round(self.grace_seconds * 1000) if grace and presence.has_messages else 0

        def on_result(result: int) -> bool:
            if result == 2:
                if room not in self.expiring:
                    # NOTE: the node may have a new name since it has sent this, and not be back yet.
                    operation = ("add_rooms", NODES, self.incarnation, [room])
                    self.pipeline.submit(operation, None, ignore)
                self.expiring[room] = self.expiring.get(room, 0) + 1
                self.schedule_expiry(room, presence.key)
            self.discard_if_unused(room)
            return result == 1

        def on_failure(error: BackendUnavailable) -> bool:
            if isinstance(error, OperationRefused):
                # NOTE: a key of a wrong type contains no presence to remove.
                self.discard_if_unused(room)
            else:
                self.unsent_leaves.append((room, presence, grace))
            return not grace and self.is_only_connection(room, presence)

        operation = (
            "leave",
            hash_tag(room),
            presence.key,
            presence.connection,
            self.incarnation,
            grace_ms,
        )
        return self.pipeline.submit(operation, on_result, on_failure)

    def schedule_expiry(self, room: str, key: str) -> None:
        """Expire an entry after the grace period."""
        self.tasks.call_later(
            self.grace_seconds + EXPIRY_MARGIN_SECONDS,
            lambda: self.tasks.create_task(self.expire(room, key)),
        )

    async def expire(self, room: str, key: str) -> None:
        """Remove an entry unless the user has reconnected; retry if the grace period is not over."""
        try:
            if self.pipeline.outage or await self.pipeline.call("expire", hash_tag(room), key):
                self.schedule_expiry(room, key)
                return
        except BackendUnavailable:
            self.schedule_expiry(room, key)
            return
        self.expiring[room] -= 1
        if not self.expiring[room]:
            del self.expiring[room]
        self.discard_if_unused(room)

    def discard_if_unused(self, room: str) -> None:
        """Discard a room that this node does not use any more."""
        if room in self.local and not self.local[room]:
            del self.local[room]
        if not self.uses(room):
            self.unused_rooms.add(room)
            if not self.pipeline.outage:
                self.send_unused_rooms()

    def uses(self, room: str) -> bool:
        """Return whether this node has connections in a room, or entries to expire."""
        return room in self.local or room in self.expiring

    async def prune_rooms(self) -> None:
        """Remove unused rooms from the list that Redis has of this node's rooms."""
        names = await self.pipeline.call("rooms_of", NODES, self.incarnation)
        self.unused_rooms.update(name.decode() for name in names)
        self.send_unused_rooms()

    def send_unused_rooms(self) -> None:
        """Remove unused rooms from the node's list; after a failure, again when the outage is over."""
        rooms = [room for room in self.unused_rooms if not self.uses(room)]
        self.unused_rooms.clear()
        for chunk in chunks(rooms):
            operation = ("remove_rooms", NODES, self.incarnation, chunk)
            self.pipeline.submit(operation, None, functools.partial(self.on_unused_kept, chunk))

    def on_unused_kept(self, rooms: list[str], error: BackendUnavailable) -> None:
        """Remove rooms from the node's list later."""
        self.unused_rooms.update(rooms)

    async def present(self, room: str, user: str) -> bool:
        """Return whether a user is in a room; during an outage, on this node."""
        if not self.pipeline.outage:
            try:
                return bool(await self.pipeline.call("present", hash_tag(room), f"u{user}"))
            except BackendUnavailable:
                pass
        return any(presence.user == user for presence in self.local.get(room, {}).values())

    async def members(self, room: str, after: int | str | None, limit: int | None) -> MemberPage:
        """Return a page of the users in a room; during an outage, of those of this node."""
        if not self.pipeline.outage:
            try:
                flat = await self.pipeline.call("members", hash_tag(room))
            except BackendUnavailable:
                pass
            else:
                keys = zip(map(int, flat[1::2]), map(bytes.decode, flat[::2]), strict=True)
                return page_of(room, sorted(keys), after, limit)
        local = dict.fromkeys(presence.key for presence in self.local.get(room, {}).values())
        return page_of(room, enumerate(local, 1), after, limit)

    async def rooms(self, prefix: str) -> list[str]:
        """Return the sorted names of all live nodes' rooms that start with a prefix."""
        self.pipeline.check_available()
        return await rooms_with_prefix(self.pipeline.call, prefix)

    async def sync(self, *, in_doubt: bool) -> None:
        """Bring Redis up to date after an outage, and wait for it.

        Args:
            in_doubt: Whether Redis may have lost stored data.
        """
        calls = [
            self.pipeline.call("add_rooms", NODES, self.incarnation, chunk)
            for chunk in chunks([*self.local, *self.expiring])
        ]
        await asyncio.gather(*calls, *self.send_changes())
        if in_doubt:
            names = await self.pipeline.call("rooms_of", NODES, self.incarnation)
            known = {*self.local, *self.expiring, *(name.decode() for name in names)}
            await wait_all([self.reconcile(room) for room in known])
        await self.prune_rooms()

    def reconcile(self, room: str) -> asyncio.Future[None]:
        """Make the entries of this node's connections in a room equal to :attr:`local`."""

        def enter_missing(result: tuple[int, list[bytes]]) -> None:
            local = self.local.get(room, {})
            for connection in result[1]:
                presence = local.get(connection.decode())
                if presence is not None:
                    self.send_enter(room, presence)

        connections = list(self.local.get(room, ()))
        operation = ("evict", hash_tag(room), self.incarnation, connections)
        return self.pipeline.submit(operation, enter_missing)

    def send_remaining(self) -> None:
        """Submit the changes since :meth:`sync`, without waiting."""
        unstored = [
            room
            for room, presences in self.local.items()
            if not all(presence.stored for presence in presences.values())
        ]
        for chunk in chunks(unstored):
            self.pipeline.call_ignoring_outcome("add_rooms", NODES, self.incarnation, chunk)
        self.send_changes()
        self.send_unused_rooms()

    def send_changes(self) -> list[asyncio.Future[bool]]:
        """Submit the leaves of an outage, and the presences that are not stored."""
        leaves, self.unsent_leaves = self.unsent_leaves, []
        futures = [self.send_leave(*leave) for leave in leaves]
        for room, presences in self.local.items():
            for presence in presences.values():
                if not presence.stored:
                    futures.append(self.send_enter(room, presence))
        return futures
