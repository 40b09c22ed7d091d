"""The backend of one process: it needs nothing, and nothing of it outlives the process."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Sequence

from ..history import History, Position, last_known
from ..publication import Publication
from .base import Answer, Backend, Lease, Node, Presence, Timing, users_of
from .buffer import Tail

NOTHING = Answer(None)
ONE_NODE = Answer(1)


class Stay:
    """A user's stay in a room, from the first connection to the end of the last one."""

    __slots__ = ("connections", "going", "left")

    def __init__(self) -> None:
        self.connections: set[str] = set()
        self.left: Publication | None = None
        self.going: asyncio.TimerHandle | None = None

    def keep(self) -> None:
        """The user has come back in time."""
        if self.going is not None:
            self.going.cancel()
            self.going = None


class MemoryRoom:
    """What is known of a room."""

    __slots__ = ("cleaning", "epoch", "holders", "offset", "stays", "tail")

    def __init__(self) -> None:
        self.holders = 0
        self.stays: dict[str, Stay] = {}
        self.tail: Tail | None = None
        self.epoch = secrets.token_hex(8)
        self.offset = 0
        self.cleaning: asyncio.TimerHandle | None = None


class MemoryBackend(Backend):
    """One process, which has all there is.

    Args:
        timing: Only ``grace_seconds`` means something here.
    """

    node_id = ""
    outage = ""
    single = True

    def __init__(self, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self.node: Node
        self.known: dict[str, MemoryRoom] = {}
        self.token = 0

    async def start(self) -> None:
        """There is nothing to begin."""

    async def stop(self) -> None:
        """Forget all, so that nothing happens any more."""
        for room in self.known.values():
            if room.cleaning is not None:
                room.cleaning.cancel()
            for stay in room.stays.values():
                stay.keep()
        self.known.clear()

    def publish(self, room: str, entry: Publication, *, ephemeral: bool = False) -> Awaitable[None]:
        """Deliver at once, and keep it where the room has a history."""
        found = self.known.get(room)
        if found is not None and found.tail is not None and not ephemeral:
            found.offset += 1
            entry.number(Position(found.epoch, found.offset), shown=True)
            found.tail.add(entry, asyncio.get_running_loop().time())
        self.node.deliver(room, entry)
        return NOTHING

    def publish_direct(self, entry: Publication) -> Awaitable[int]:
        """Deliver at once."""
        self.node.deliver_direct(entry)
        return ONE_NODE

    async def subscribe(self, room: str, history: History | None) -> None:
        """Keep the room, and its history if it has one."""
        found = self.known.setdefault(room, MemoryRoom())
        found.holders += 1
        if found.cleaning is not None:
            found.cleaning.cancel()
            found.cleaning = None
        if history is not None and (found.tail is None or found.tail.history != history):
            found.tail = Tail(history)

    def unsubscribe(self, room: str) -> None:
        """Forget the room once nobody is there and its history is too old."""
        found = self.known.get(room)
        if found is not None:  # None once it has been stopped
            found.holders -= 1
            self.clean(room, found)

    def clean(self, name: str, room: MemoryRoom) -> None:
        """Forget what nobody needs any more, now or later."""
        if room.holders or room.stays or room.cleaning is not None:
            return
        if room.tail is not None:
            loop = asyncio.get_running_loop()
            room.tail.forget_old(loop.time())
            if room.tail.entries:
                seconds = room.tail.history.seconds
                room.cleaning = loop.call_later(seconds, self.clean_again, name, room)
                return
        del self.known[name]

    def clean_again(self, name: str, room: MemoryRoom) -> None:
        """Look again, after the time in which a history gets old."""
        room.cleaning = None
        self.clean(name, room)

    def position(self, room: str) -> Position | None:
        """The place of the last entry."""
        found = self.known.get(room)
        if found is None or found.tail is None:
            return None
        return Position(found.epoch, found.offset)

    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """All that was said after a position."""
        return self.recover_local(room, since)

    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """The same."""
        found, known = self.known.get(room), last_known(self.position(room), since)
        if found is None or found.tail is None or known is None:
            return None
        now = Position(found.epoch, found.offset)
        return found.tail.between(known, now, asyncio.get_running_loop().time())

    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """Keep that a connection is there, and tell the room of a user who comes."""
        found = self.known[room]
        stay = found.stays.get(presence.key)
        first = stay is None
        if stay is None:
            stay = found.stays[presence.key] = Stay()
        stay.keep()
        stay.connections.add(presence.connection)
        stay.left = presence.leave_message or stay.left
        if first and presence.join_message is not None:
            self.publish(room, presence.join_message)
        return Answer(first)

    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """Keep that a connection is not there any more, and tell the room of a user who has gone."""
        found = self.known.get(room)
        stay = found.stays.get(presence.key) if found is not None else None
        if found is None or stay is None or presence.connection not in stay.connections:
            return Answer(False)
        stay.connections.discard(presence.connection)
        if stay.connections:
            return Answer(False)
        seconds = self.timing.grace_seconds
        if grace and presence.told and seconds:
            loop = asyncio.get_running_loop()
            stay.going = loop.call_later(seconds, self.end_stay, room, found, presence.key)
            return Answer(False)
        self.end_stay(room, found, presence.key)
        return Answer(True)

    def end_stay(self, name: str, room: MemoryRoom, key: str) -> None:
        """A user has gone."""
        stay = room.stays.pop(key)
        if stay.left is not None:
            self.publish(name, stay.left)
        self.clean(name, room)

    async def present(self, room: str, user: str) -> bool:
        """Whether a user is in a room."""
        found = self.known.get(room)
        return found is not None and f"u{user}" in found.stays

    async def members(self, room: str) -> list[str]:
        """The users in a room, in the order in which they came."""
        found = self.known.get(room)
        return users_of(list(found.stays)) if found is not None else []

    async def rooms(self, prefix: str) -> list[str]:
        """The rooms that begin so and have somebody in them, sorted."""
        return sorted(
            name for name, room in self.known.items() if room.stays and name.startswith(prefix)
        )

    async def acquire(self, name: str) -> Lease | float:
        """A lease for ever: nobody else is there."""
        self.token += 1
        return Lease(name, self.token, math.inf)

    async def renew(self, lease: Lease) -> bool:
        """It is still held."""
        return True

    async def release(self, lease: Lease) -> None:
        """Nobody waits for it."""
