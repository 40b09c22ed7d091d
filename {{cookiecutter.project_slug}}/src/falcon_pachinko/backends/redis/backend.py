"""The backend of many processes: Redis or Valkey carries what is said, and remembers who is where."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Sequence
from typing import Any

from ...errors import BackendUnavailable, LeaseLost
from ...history import History, Position
from ...publication import Publication
from ...support.tasks import TaskSet
from ..base import LEASE, Backend, Lease, Node, Presence, Timing
from .client import make_engine
from .pipeline import Calls
from .presence import Presences
from .pubsub import Listener
from .script import NODES, ROOM_TTL_MS, raw, tag_of
from .subscriptions import Hearing

logger = logging.getLogger(__name__)

# The engine keeps what a room needs so long after the last word of a node; a third leaves room for failures.
KEEP_SECONDS = ROOM_TTL_MS / 1000 / 3


class RedisBackend(Backend):
    """Joins all processes that have the same URL and prefix.

    Everything goes through one script in the engine (see :mod:`.script`), which numbers what is said to a
    room and publishes it; this process delivers its own messages when they come back.

    Args:
        url: See :func:`~falcon_pachinko.backends.engine.make_engine`.
        prefix: What the names of keys and channels begin with. Services that share an engine have each
            its own: a database's number does not part channels.
        timing: How patient it is; the same in all processes.

    Raises:
        RegistrationError: The URL names no engine.
    """

    def __init__(self, url: str, *, prefix: str = "pachinko", timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self.engine = make_engine(url, prefix, self.timing.answer_seconds)
        self.calls = Calls(self.engine, lambda reason: self.listener.restart(reason))
        self.calls.away = "it has not been started: the server has to run the lifespan"
        self.listener = Listener(self.engine, self.hear, self.restore, self.calls.lose)
        self.presences = Presences(self.calls, self.timing.grace_seconds)
        self.hearing = Hearing(self.calls, self.listener, self.presences.enter_again)
        self.background = TaskSet()
        self.node_id = ""
        self.forgotten = False
        self.runs: set[bytes] = set()
        self.kept_at = self.heard_at = 0.0
        self.up: asyncio.Event

    @property
    def node(self) -> Node:
        """Who is served."""
        return self.hearing.node

    @node.setter
    def node(self, node: Node) -> None:
        self.hearing.node = node

    @property
    def outage(self) -> str:
        """Why the engine is away; empty when it is not."""
        return self.calls.away

    # The life of the node.

    async def start(self) -> None:
        """Begin to listen; return when that works, or after ``answer_seconds``."""
        self.node_id = secrets.token_hex(4)
        self.presences.start_anew(self.node_id)
        self.up = asyncio.Event()
        self.calls.away = "it has not answered yet"
        for tag in (f"{NODES}:all", f"{NODES}:to:{self.node_id}"):
            self.listener.channels[self.engine.channel(tag)] = None
        self.background.create_task(self.calls.run())
        self.background.create_task(self.listener.run())
        self.background.create_task(self.beat())
        try:
            async with asyncio.timeout(self.timing.answer_seconds):
                await self.up.wait()
        except TimeoutError:
            logger.error("the engine of the rooms is away: %s; trying on", self.outage)

    async def stop(self) -> None:
        """Say what is left to say, hand over what is to be settled, and end."""
        if not self.outage:
            patience_ms = round(self.timing.grace_seconds * 1000) + 100
            self.calls.call_aside("depart", NODES, self.presences.incarnation, patience_ms)
            await self.calls.wait_idle(self.timing.answer_seconds)
        self.calls.away = "it has been stopped"
        await self.presences.background.aclose()
        await self.hearing.background.aclose()
        await self.background.aclose()
        await self.listener.stop()
        await self.engine.close()

    async def restore(self) -> None:
        """Make up for an outage; whoever calls has begun to listen to all channels again."""
        try:
            known, *dead = await self.say_alive()
            if not known or self.forgotten:
                # NOTE: under another name, because the old one may still be being buried. Of those who were
                #   buried the others have heard that they have gone; and where an engine has lost its data,
                #   whoever asked it meanwhile does not know of them.
                self.forgotten = False
                self.presences.start_anew(f"{self.node_id}.{secrets.token_hex(4)}")
                _, *dead = await self.say_alive(anew=True)
            self.hearing.forget_waiting()
            await self.hearing.catch_up_all(self.hearing.feeds)
            # NOTE: a server that has begun anew or has taken another one's place may lack what was said last.
            #   What nobody has kept for long enough, it may have let go.
            runs, now = self.listener.runs.copy(), asyncio.get_running_loop().time()
            in_doubt = not runs <= self.runs or now - self.heard_at > KEEP_SECONDS
            await self.presences.catch_up(in_doubt=in_doubt)
            self.runs, self.heard_at = runs, now
        except BackendUnavailable as error:
            raise ConnectionError(error.reason) from None
        if self.up.is_set():
            logger.warning("the engine of the rooms is back")
        self.calls.away = ""
        self.up.set()
        # NOTE: a node with many clients is never done with those who come and go meanwhile. What is posted here
        #   stands before all that they do from now on.
        self.presences.tell_rest()
        self.hearing.catch_up_later()
        self.hearing.close_rest()
        self.bury(dead)

    def say_alive(self, *, anew: bool = False) -> asyncio.Future[list[Any]]:
        """Renew the node's lease, or begin one under a name that the engine has never known."""
        expiry_ms = round(self.timing.expiry_seconds * 1000)
        heartbeat_ms = round(self.timing.heartbeat_seconds * 1000)
        incarnation = self.presences.incarnation
        return self.calls.call("beat", NODES, incarnation, expiry_ms, heartbeat_ms, anew)

    async def beat(self) -> None:
        """Say again and again that this node lives, and bury those who do not say so any more."""
        while True:
            await asyncio.sleep(self.timing.heartbeat_seconds)
            if self.outage:
                continue
            try:
                known, *dead = await self.say_alive()
                if not known:
                    self.forgotten = True
                    self.calls.lose("it has forgotten this node")
                    continue
                self.heard_at = asyncio.get_running_loop().time()
                await self.keep_rooms()
            except BackendUnavailable:
                continue
            for feed in self.hearing.feeds.values():
                feed.age_tail()
            self.bury(dead)

    async def keep_rooms(self) -> None:
        """From time to time: let the engine keep what the rooms of this node need."""
        now = asyncio.get_running_loop().time()
        if now - self.kept_at < KEEP_SECONDS:
            return
        self.kept_at = now
        asked = [self.calls.call("keep_rooms_of", NODES, self.presences.incarnation)]
        asked += [self.calls.call("keep", tag_of(room)) for room in self.hearing.feeds]
        await asyncio.gather(*asked)
        await self.presences.check_rooms()

    def bury(self, dead: Sequence[bytes]) -> None:
        """Let the rooms of dead nodes be told that their users have gone."""
        for node in dead:
            self.background.create_task(self.presences.bury(node.decode()))

    # What is said.

    def publish(self, room: str, entry: Publication, *, ephemeral: bool = False) -> Awaitable[None]:
        """Say something to a room."""
        if self.outage:
            raise BackendUnavailable(self.outage)
        lease = LEASE.get()
        if lease is None:
            fence = token = None
        elif lease.expires <= asyncio.get_running_loop().time():
            raise LeaseLost(f"the lease of {lease.name!r} is over")
        else:
            fence, token = lease.name, lease.token
        return self.calls.post(
            ("publish", tag_of(room), raw(entry.encode()), ephemeral, fence, token), check_fence
        )

    def publish_direct(self, entry: Publication) -> Awaitable[int]:
        """Say something to a user, a connection or everybody."""
        if self.outage:
            raise BackendUnavailable(self.outage)
        connection = entry.header.connection
        # NOTE: the id of a node is what the ids of its connections begin with.
        where = "all" if connection is None else f"to:{connection[: len(self.node_id)]}"
        return self.calls.call("say", f"{NODES}:{where}", raw(entry.encode()))

    def hear(self, channel: bytes, data: bytes) -> None:
        """Take what comes from the engine."""
        tag = channel.decode()[len(self.engine.prefix) + 1 :]
        if tag.startswith(NODES):
            self.node.deliver_direct(Publication.decode(data))
        else:
            self.hearing.hear(tag, data)

    # Rooms and presence.

    async def subscribe(self, room: str, history: History | None) -> None:
        """Begin to listen to a room, or wait until that has begun."""
        await self.hearing.subscribe(room, history)

    def unsubscribe(self, room: str) -> None:
        """Listen to a room no more, if nobody else needs it."""
        self.hearing.unsubscribe(room)

    def position(self, room: str) -> Position | None:
        """The place of the last entry that was delivered here."""
        return self.hearing.position(room)

    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """All that was said after a position."""
        return await self.hearing.recover(room, since)

    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """The same of what is here."""
        return self.hearing.recover_local(room, since)

    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """A connection is in the room now."""
        return self.presences.enter(room, presence)

    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """A connection is not in the room any more."""
        return self.presences.leave(room, presence, grace=grace)

    async def present(self, room: str, user: str) -> bool:
        """Whether a user is in a room; while the engine is away, whether one is here."""
        return await self.presences.present(room, user)

    async def members(self, room: str) -> list[str]:
        """The users in a room; while the engine is away, those who are here."""
        return await self.presences.members(room)

    async def rooms(self, prefix: str) -> list[str]:
        """The rooms of all living nodes."""
        return await self.presences.rooms(prefix)

    # Leases.

    async def acquire(self, name: str) -> Lease | float:
        """Ask for a lease."""
        if self.outage:
            raise BackendUnavailable(self.outage)
        asked_at = asyncio.get_running_loop().time()
        seconds = self.timing.expiry_seconds
        token = await self.calls.call("acquire", NODES, name, self.node_id, round(seconds * 1000))
        if token > 0:
            return Lease(name, token, asked_at + seconds)
        return float(-token) / 1000

    async def renew(self, lease: Lease) -> bool:
        """Hold a lease for longer."""
        if self.outage:
            raise BackendUnavailable(self.outage)
        asked_at = asyncio.get_running_loop().time()
        seconds = self.timing.expiry_seconds
        held = await self.calls.call(
            "renew", NODES, lease.name, self.node_id, round(seconds * 1000)
        )
        if held:
            lease.expires = asked_at + seconds
        return bool(held)

    async def release(self, lease: Lease) -> None:
        """Give a lease back."""
        self.calls.call_aside("release", NODES, lease.name, self.node_id)


def check_fence(offset: int) -> None:
    """Refuse what a worker has said whose place another one has taken.

    Raises:
        LeaseLost: That is so.
    """
    if offset == -1:
        raise LeaseLost("another worker has taken its place")
