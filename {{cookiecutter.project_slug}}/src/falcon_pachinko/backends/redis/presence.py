"""Who of a node is where, and what the engine knows of it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable

from ...errors import BackendUnavailable
from ...support.tasks import TaskSet
from ..base import Answer, Presence, users_of
from .pipeline import Calls, nothing
from .script import NODES, raw, rooms_with_prefix, tag_of

logger = logging.getLogger(__name__)

# How many rooms one operation names; Lua's unpack takes some thousands.
ROOMS_PER_OPERATION = 500

# A stay is settled only once the engine's clock says that the time of grace is over.
SETTLE_MARGIN_SECONDS = 0.02


class Presences:
    """The presences of a node's connections.

    Attributes:
        incarnation: What the engine knows the node by.

    Args:
        calls: The way to the engine.
        grace_seconds: How long a user whose last connection has ended is still there.
    """

    incarnation: str

    def __init__(self, calls: Calls, grace_seconds: float) -> None:
        self.calls = calls
        self.grace_seconds = grace_seconds
        self.here: dict[str, dict[str, Presence]] = {}
        """Who of this process is in a room, by connection."""
        self.unsettled: dict[str, int] = {}
        """How many stays of a room this node has to settle when their time of grace is over."""
        self.unsaid: list[tuple[str, Presence, bool]] = []
        """Who has left while the engine was away."""
        self.emptied: set[str] = set()
        """Where nobody is left, which the engine has not been told."""
        self.background = TaskSet()

    def start_anew(self, incarnation: str) -> None:
        """The engine knows the node by another name from now on, and nobody of it."""
        self.incarnation = incarnation
        for presences in self.here.values():
            for presence in presences.values():
                presence.known = presence.announced = False

    def enter_again(self, room: str) -> None:
        """The engine may have lost who is in a room."""
        for presence in self.here.get(room, {}).values():
            presence.known = presence.announced = False
            if not self.calls.away:
                self.tell_entered(room, presence)

    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """A connection is in the room now."""
        others = self.here.setdefault(room, {})
        if not others and room not in self.unsettled:
            self.calls.call_aside("has", NODES, self.incarnation, [room])
        others[presence.connection] = presence
        if self.calls.away:
            return Answer(self.is_alone(room, presence))
        return self.tell_entered(room, presence)

    def is_alone(self, room: str, presence: Presence) -> bool:
        """Whether no other connection of the user is in the room here: what counts while the engine is away."""
        others = self.here.get(room, {}).values()
        return all(other.key != presence.key or other is presence for other in others)

    def tell_entered(self, room: str, presence: Presence) -> asyncio.Future[bool]:
        """Tell the engine that somebody is there."""

        def know(first: int) -> bool:
            presence.known = presence.announced = True
            return first == 1

        joined, left = presence.join_message, presence.leave_message
        presence.said = True
        operation = (
            "enter",
            tag_of(room),
            presence.key,
            presence.connection,
            self.incarnation,
            None if joined is None or presence.announced else raw(joined.encode()),
            None if left is None else raw(left.encode()),
        )
        return self.calls.post(operation, know, lambda: self.is_alone(room, presence))

    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """A connection is not in the room any more."""
        others = self.here.get(room, {})
        entered = others.pop(presence.connection, None)
        if entered is None:
            return Answer(False)
        if self.calls.away:
            if entered.said:
                self.unsaid.append((room, presence, grace))
            self.left_by(room)
            return Answer(not grace and self.is_alone(room, presence))
        return self.tell_left(room, presence, grace)

    def tell_left(self, room: str, presence: Presence, grace: bool) -> asyncio.Future[bool]:
        """Tell the engine that somebody is not there any more, or keep it to be told later."""
        ms = round(self.grace_seconds * 1000) if grace and presence.told else 0

        def settle(gone: int) -> bool:
            if gone == 2:
                if room not in self.unsettled:
                    # NOTE: the node may have another name since it said so, and not be quite back.
                    self.calls.post(("has", NODES, self.incarnation, [room]), None, nothing)
                self.unsettled[room] = self.unsettled.get(room, 0) + 1
                self.settle_later(room, presence.key)
            self.left_by(room)
            return gone == 1

        def keep() -> bool:
            self.unsaid.append((room, presence, grace))
            return not grace and self.is_alone(room, presence)

        operation = (
            "leave",
            tag_of(room),
            presence.key,
            presence.connection,
            self.incarnation,
            ms,
        )
        return self.calls.post(operation, settle, keep)

    def settle_later(self, room: str, key: str) -> None:
        """See whether a user has come back, when the time of grace is over."""
        self.background.call_later(
            self.grace_seconds + SETTLE_MARGIN_SECONDS,
            lambda: self.background.create_task(self.settle(room, key)),
        )

    async def settle(self, room: str, key: str) -> None:
        """End a stay whose time of grace is over."""
        try:
            if self.calls.away or await self.calls.call("settle", tag_of(room), key):
                self.settle_later(room, key)
                return
        except BackendUnavailable:
            self.settle_later(room, key)
            return
        self.unsettled[room] -= 1
        if not self.unsettled[room]:
            del self.unsettled[room]
        self.left_by(room)

    def left_by(self, room: str) -> None:
        """Forget a room in which nobody of this node is, and nobody has to be settled."""
        if room in self.here and not self.here[room]:
            del self.here[room]
        if not self.needs(room):
            self.emptied.add(room)
            if not self.calls.away:
                self.tell_emptied()

    def needs(self, room: str) -> bool:
        """Whether somebody of this node is in a room, or has to be settled there."""
        return room in self.here or room in self.unsettled

    async def check_rooms(self) -> None:
        """See whether the engine believes that this node has somebody where it has nobody."""
        names = await self.calls.call("rooms_of", NODES, self.incarnation)
        self.emptied.update(name.decode() for name in names)
        self.tell_emptied()

    def tell_emptied(self) -> None:
        """Tell the engine where nobody of this node is any more."""
        rooms = [room for room in self.emptied if not self.needs(room)]
        self.emptied.clear()
        for start in range(0, len(rooms), ROOMS_PER_OPERATION):
            chunk = rooms[start : start + ROOMS_PER_OPERATION]
            operation = ("had", NODES, self.incarnation, chunk)
            self.calls.post(operation, None, functools.partial(self.emptied.update, chunk))

    async def present(self, room: str, user: str) -> bool:
        """Whether a user is in a room."""
        if not self.calls.away:
            try:
                return bool(await self.calls.call("present", tag_of(room), f"u{user}"))
            except BackendUnavailable:
                pass
        return any(presence.user == user for presence in self.here.get(room, {}).values())

    async def members(self, room: str) -> list[str]:
        """The users in a room; while the engine is away, those who are here."""
        if not self.calls.away:
            try:
                flat = await self.calls.call("members", tag_of(room))
            except BackendUnavailable:
                pass
            else:
                keys = zip(flat[::2], map(int, flat[1::2]), strict=True)
                return users_of([key.decode() for key, _ in sorted(keys, key=lambda pair: pair[1])])
        presences = self.here.get(room, {}).values()
        return users_of(list(dict.fromkeys(presence.key for presence in presences)))

    async def rooms(self, prefix: str) -> list[str]:
        """The rooms of all living nodes."""
        if self.calls.away:
            raise BackendUnavailable(self.calls.away)
        return await rooms_with_prefix(self.calls.call, prefix)

    async def catch_up(self, *, in_doubt: bool) -> None:
        """Tell the engine who has come and gone, and wait until it knows.

        Args:
            in_doubt: Whether it may have lost what it knew.
        """
        told = []
        rooms = [*self.here, *self.unsettled]
        for start in range(0, len(rooms), ROOMS_PER_OPERATION):
            chunk = rooms[start : start + ROOMS_PER_OPERATION]
            told.append(self.calls.call("has", NODES, self.incarnation, chunk))
        await asyncio.gather(*told, *self.tell_unsaid())
        if in_doubt:
            names = await self.calls.call("rooms_of", NODES, self.incarnation)
            known = {*self.here, *self.unsettled, *(name.decode() for name in names)}
            await asyncio.gather(*[self.compare(room) for room in known])
        await self.check_rooms()

    def compare(self, room: str) -> asyncio.Future[None]:
        """Let the engine know all of this node who are in a room, and nobody else of it."""

        def enter_missing(answer: tuple[int, list[bytes]]) -> None:
            here = self.here.get(room, {})
            for connection in answer[1]:
                presence = here.get(connection.decode())
                if presence is not None:
                    self.tell_entered(room, presence)

        living = list(self.here.get(room, ()))
        return self.calls.post(("bury", tag_of(room), self.incarnation, living), enter_missing)

    def tell_rest(self) -> None:
        """Tell it who has done so since :meth:`catch_up`, without waiting."""
        unknown = [
            room for room, of in self.here.items() if not all(each.known for each in of.values())
        ]
        for start in range(0, len(unknown), ROOMS_PER_OPERATION):
            chunk = unknown[start : start + ROOMS_PER_OPERATION]
            self.calls.call_aside("has", NODES, self.incarnation, chunk)
        self.tell_unsaid()
        self.tell_emptied()

    def tell_unsaid(self) -> list[asyncio.Future[bool]]:
        """Tell the engine who has left while it was away, and who is there of whom it does not know."""
        unsaid, self.unsaid = self.unsaid, []
        told = [self.tell_left(*each) for each in unsaid]
        for room, presences in self.here.items():
            for presence in presences.values():
                if not presence.known:
                    told.append(self.tell_entered(room, presence))
        return told

    async def bury(self, node: str) -> None:
        """Tell the rooms of a dead node that its users have gone."""
        try:
            names = [name.decode() for name in await self.calls.call("rooms_of", NODES, node)]
            answers = await asyncio.gather(
                *[self.calls.call("bury", tag_of(name), node, []) for name in names]
            )
            for name in names:
                self.calls.call_aside("close", tag_of(name))
            done = [name for name, (later, _) in zip(names, answers, strict=True) if not later]
            for start in range(0, len(done), ROOMS_PER_OPERATION):
                chunk = done[start : start + ROOMS_PER_OPERATION]
                await self.calls.call("had", NODES, node, chunk)
            if len(done) == len(names):
                await self.calls.call("buried", NODES, node)
        except BackendUnavailable:
            logger.info("node %s is buried later", node)
