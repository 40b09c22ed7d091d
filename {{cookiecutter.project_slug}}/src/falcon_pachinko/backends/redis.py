"""The backend of many processes: Redis or Valkey carries what is said, and remembers who is where."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from ..errors import BackendUnavailable, LeaseLost
from .base import (
    LEASE,
    Answer,
    Backend,
    Entry,
    History,
    Lease,
    Node,
    Position,
    Presence,
    Timing,
    users_of,
)
from .calls import Calls
from .engine import FAILURES, make_engine
from .feed import Feed
from .listener import Listener
from .script import NODES, ROOM_TTL_MS, raw, room_of, rooms_with_prefix, tag_of

logger = logging.getLogger(__name__)

# How many rooms one operation names; Lua's unpack takes some thousands.
ROOMS_PER_OPERATION = 500

# What no epoch is called: all that there is follows it.
ALL = Position("", 0)

# The engine keeps what a room needs so long after the last word of a node; a third leaves room for failures.
KEEP_SECONDS = ROOM_TTL_MS / 1000 / 3

# A stay is settled only once the engine's clock says that the time of grace is over.
SETTLE_MARGIN_SECONDS = 0.02


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
        self.node: Node
        self.node_id = ""
        self.incarnation = ""
        """What the engine knows the node by: another one each time when it has been forgotten."""
        self.forgotten = False
        self.away = "it has not been started: the server has to run the lifespan"
        self.feeds: dict[str, Feed] = {}
        self.here: dict[str, dict[str, Presence]] = {}
        """Who of this process is in a room, by connection."""
        self.unsettled: dict[str, int] = {}
        """How many stays of a room this node has to settle when their time of grace is over."""
        self.unsaid: list[tuple[str, Presence, bool]] = []
        """Who has left while the engine was away."""
        self.timers: set[asyncio.TimerHandle] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.calls = Calls(self.engine, self.lose)
        self.listener = Listener(self.engine, self.hear, self.restore, self.lose)
        self.up: asyncio.Event
        self.kept_at = 0.0

    @property
    def outage(self) -> str:
        """Why the engine is away; empty when it is not."""
        return self.away

    # The life of the node.

    async def start(self) -> None:
        """Begin to listen; return when that works, or after ``answer_seconds``."""
        self.node_id = secrets.token_hex(4)
        self.incarnation = self.node_id
        self.up = asyncio.Event()
        self.away = "it has not answered yet"
        self.listener.channels.update(
            {self.everybody: None, self.engine.channel(f"{NODES}:to:{self.node_id}"): None}
        )
        self.run(self.calls.run())
        self.run(self.listener.run())
        self.run(self.beat())
        try:
            async with asyncio.timeout(self.timing.answer_seconds):
                await self.up.wait()
        except TimeoutError:
            logger.error("the engine of the rooms is away: %s; trying on", self.away)

    async def stop(self) -> None:
        """Say what is left to say, hand over what is to be settled, and end."""
        if not self.away:
            patience = round(self.timing.grace_seconds * 1000) + 100
            departed = self.call("depart", NODES, self.incarnation, patience)
            departed.add_done_callback(see_end)
            await asyncio.wait({departed}, timeout=self.timing.answer_seconds)
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        self.away = "it has been stopped"
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.listener.stop()
        await self.engine.close()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let something run beside, as long as this lives."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def later(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        """Call something later, unless this has ended by then."""

        def call() -> None:
            self.timers.discard(timer)
            function(*args)

        timer = asyncio.get_running_loop().call_later(seconds, call)
        self.timers.add(timer)

    # The engine.

    @property
    def everybody(self) -> str:
        """The channel of all nodes."""
        return self.engine.channel(f"{NODES}:all")

    def call(self, name: str, tag: str, *args: Any) -> asyncio.Future[Any]:
        """Ask for an operation of the script; what is asked for in one turn shares a round trip.

        Raises:
            BackendUnavailable: From the future; the engine may have done it or not.
        """
        return self.calls.post((name, tag, *args))

    def lose(self, reason: str) -> None:
        """The engine is away."""
        if not self.away:
            logger.error("the engine of the rooms is away: %s; trying on", reason)
        self.away = reason
        self.listener.restart(reason)

    async def restore(self) -> None:
        """Make up for an outage; whoever calls has begun to listen to all channels again."""
        try:
            known, *dead = await self.say_alive()
            if not known or self.forgotten:
                # NOTE: under another name, because the old one may still be being buried. Of those who were
                #   buried the others have heard that they have gone; and where an engine has lost its data,
                #   whoever asked it meanwhile does not know of them.
                self.forgotten = False
                self.incarnation = f"{self.node_id}.{secrets.token_hex(4)}"
                await self.say_alive()
                for presences in self.here.values():
                    for presence in presences.values():
                        presence.known = presence.announced = False
            await self.catch_up_all(self.feeds)
            while not self.is_restored():
                await self.catch_up_presence()
                await self.catch_up_all([room for room, feed in self.feeds.items() if feed.late])
        except BackendUnavailable as error:
            raise ConnectionError(error.reason) from None
        if self.away and self.up.is_set():
            logger.warning("the engine of the rooms is back")
        self.away = ""
        self.up.set()
        for node in dead:
            self.run(self.bury(node.decode()))

    def is_restored(self) -> bool:
        """Whether the engine knows of everybody who is here and of nobody else, and nobody waits for a place."""
        everybody_known = all(p.known for room in self.here.values() for p in room.values())
        nobody_waits = not any(feed.late for feed in self.feeds.values())
        return everybody_known and nobody_waits and not self.unsaid

    async def catch_up_presence(self) -> None:
        """Tell the engine who has come and gone."""
        unsaid, self.unsaid = self.unsaid, []
        told: list[Awaitable[Any]] = []
        rooms = [*self.here, *self.unsettled]
        for start in range(0, len(rooms), ROOMS_PER_OPERATION):
            chunk = rooms[start : start + ROOMS_PER_OPERATION]
            told.append(self.call("has", NODES, self.incarnation, chunk))
        for room, presence, grace in unsaid:
            told.append(self.tell_left(room, presence, grace, False))
        for room, presences in self.here.items():
            for presence in presences.values():
                if not presence.known:
                    told.append(self.tell_entered(room, presence, False))
        await asyncio.gather(*told)

    def say_alive(self) -> asyncio.Future[list[Any]]:
        """Renew the node's lease."""
        timing = self.timing
        return self.call(
            "beat",
            NODES,
            self.incarnation,
            round(timing.expiry_seconds * 1000),
            round(timing.heartbeat_seconds * 1000),
        )

    async def beat(self) -> None:
        """Say again and again that this node lives, and bury those who do not say so any more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.timing.heartbeat_seconds)
            if self.away:
                continue
            try:
                known, *dead = await self.say_alive()
                if not known:
                    self.forgotten = True
                    self.lose("it has forgotten this node")
                    continue
                if loop.time() - self.kept_at >= KEEP_SECONDS:
                    self.kept_at = loop.time()
                    await self.keep_rooms()
            except BackendUnavailable:
                continue
            for feed in self.feeds.values():
                feed.age_tail()
            for node in dead:
                self.run(self.bury(node.decode()))

    async def keep_rooms(self) -> None:
        """Let the engine keep what the rooms of this node need."""
        asked = [self.call("keep_rooms_of", NODES, self.incarnation)]
        asked += [self.call("keep", tag_of(room)) for room in self.feeds]
        await asyncio.gather(*asked)

    async def bury(self, node: str) -> None:
        """Tell the rooms of a dead node that its users have gone."""
        try:
            names = [name.decode() for name in await self.call("rooms_of", NODES, node)]
            later = await asyncio.gather(*[self.call("bury", tag_of(name), node) for name in names])
            done = [name for name, wait in zip(names, later, strict=True) if not wait]
            for start in range(0, len(done), ROOMS_PER_OPERATION):
                chunk = done[start : start + ROOMS_PER_OPERATION]
                await self.call("had", NODES, node, chunk)
            if len(done) == len(names):
                await self.call("buried", NODES, node)
        except BackendUnavailable:
            logger.info("node %s is buried later", node)

    # What is said.

    def publish(self, room: str, entry: Entry, *, ephemeral: bool = False) -> Awaitable[None]:
        """Say something to a room."""
        if self.away:
            raise BackendUnavailable(self.away)
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

    def publish_direct(self, entry: Entry) -> Awaitable[int]:
        """Say something to a user, a connection or everybody."""
        if self.away:
            raise BackendUnavailable(self.away)
        connection = entry.address.connection
        # NOTE: the id of a node is what the ids of its connections begin with.
        where = "all" if connection is None else f"to:{connection[: len(self.node_id)]}"
        return self.call("say", f"{NODES}:{where}", raw(entry.encode()))

    def hear(self, channel: bytes, data: bytes) -> None:
        """Take what comes from the engine."""
        head, _, rest = data.partition(b"\n")
        tag = channel.decode()[len(self.engine.prefix) + 1 :]
        if tag.startswith(NODES):
            self.node.deliver_direct(Entry.decode(data))
            return
        room = room_of(tag)
        feed = self.feeds.get(room)
        if feed is None:
            return
        entry = Entry.decode(rest)
        if head != b"-":
            epoch, offset, shown = head.split(b":")
            entry.number(Position(epoch.decode(), int(offset)), shown == b"1")
        if feed.hear(entry):
            self.run(self.catch_up_alone(room, feed))

    # Rooms.

    async def open_room(self, room: str, history: History | None) -> None:
        """Begin to listen to a room, or wait until that has begun."""
        loop = asyncio.get_running_loop()
        feed = self.feeds.get(room)
        if feed is None:
            feed = Feed(
                lambda entry: self.node.deliver(room, entry),
                lambda: self.node.lose_track(room),
                loop.time,
            )
            self.feeds[room] = feed
        feed.holders += 1
        if feed.opening is None or (history is not None and feed.history is None):
            feed.history = history or feed.history
            feed.opening = loop.create_task(self.begin(room, feed))
        if not feed.opening.done():
            try:
                await asyncio.wait({feed.opening})
            except BaseException:
                self.close_room(room)
                raise
        if history is not None and (feed.position is None or self.away):
            feed.late = True

    async def begin(self, room: str, feed: Feed) -> None:
        """Listen first, then ask where the room stands: nothing can be missed in between."""
        try:
            await self.listener.add(self.engine.channel(tag_of(room)))
            if self.listener.listening:
                await self.catch_up(room, feed)
        except (*FAILURES, BackendUnavailable) as error:
            logger.info("room %r is opened later: %s", room, error)

    def close_room(self, room: str) -> None:
        """Listen to a room no more, if nobody else needs it."""
        feed = self.feeds[room]
        feed.holders -= 1
        if feed.holders:
            return
        del self.feeds[room]
        self.listener.remove(
            self.engine.channel(tag_of(room)), lambda: self.call_aside("close", tag_of(room))
        )

    def call_aside(self, name: str, tag: str, *args: Any) -> None:
        """Ask for an operation whose outcome nobody needs."""
        if not self.away:
            self.call(name, tag, *args).add_done_callback(see_end)

    async def catch_up(self, room: str, feed: Feed) -> None:
        """Fetch what is missing, until nothing is.

        Raises:
            BackendUnavailable: The engine is away.
        """
        while True:
            now, shown, entries = await self.fetch(room, feed, feed.position)
            if feed.fill(now, shown, [entry for _, entry in entries]):
                return

    async def catch_up_all(self, rooms: Iterable[str]) -> None:
        """Fetch what is missing in some rooms.

        Raises:
            BackendUnavailable: The engine is away.
        """
        feeds = [(room, self.feeds[room]) for room in rooms]
        await asyncio.gather(*[self.catch_up_late(room, feed) for room, feed in feeds])

    async def catch_up_late(self, room: str, feed: Feed) -> None:
        """The same after an outage: then give those who came meanwhile what they have missed.

        Raises:
            BackendUnavailable: The engine is away.
        """
        if not feed.late or feed.history is None:
            await self.catch_up(room, feed)
            return
        now, shown, entries = await self.fetch(room, feed, ALL)
        here = feed.position or now
        old = [(at, entry) for at, entry in entries if is_at_most(entry, here)]
        if here.epoch != now.epoch:
            old = []
        recorded = feed.recorded = []
        feed.fill(now, shown, [entry for _, entry in entries[len(old) :]])
        feed.keep_tail(feed.history, [*old, *recorded])
        feed.recorded = None
        if feed.behind:
            await self.catch_up(room, feed)
        feed.late = False
        self.node.find_track(room)

    async def catch_up_alone(self, room: str, feed: Feed) -> None:
        """The same beside what goes on."""
        try:
            await self.catch_up(room, feed)
        except BackendUnavailable as error:
            logger.info("room %r is caught up with later: %s", room, error)

    async def fetch(
        self, room: str, feed: Feed, known: Position | None
    ) -> tuple[Position, bool, list[tuple[float, Entry]]]:
        """Ask where a room stands, and what followed a position.

        Returns:
            The place of the last entry, whether clients are told places, and each entry with the time on
            this process's clock at which it was said.
        """
        history = feed.history
        epoch, offset, shown, now, flat = await self.call(
            "open",
            tag_of(room),
            secrets.token_hex(8),
            0 if history is None else history.messages,
            0 if history is None else round(history.seconds * 1000),
            None if known is None else known.epoch,
            None if known is None else known.offset,
        )
        place = Position(epoch.decode(), int(offset))
        clock = feed.clock()
        entries = []
        for index in range(0, len(flat), 3):
            entry = Entry.decode(flat[index + 2])
            number = int(flat[index].partition(b"-")[0])
            entry.number(Position(place.epoch, number), bool(shown))
            entries.append((clock - (int(now) - int(flat[index + 1])) / 1000, entry))
        return place, bool(shown), entries

    def position(self, room: str) -> Position | None:
        """The place of the last entry that was delivered here."""
        feed = self.feeds.get(room)
        return feed.position if feed is not None and feed.shown else None

    async def recover(self, room: str, since: Sequence[Position]) -> list[Entry] | None:
        """All that was said after a position.

        Of those who come back together only the first one asks the engine; the others find the tail of
        the room here.
        """
        feed = self.feeds[room]
        if feed.history is None:
            return None
        try:
            if self.away:
                raise BackendUnavailable(self.away)
            known = self.left_off(room, since)
            if known is None or feed.is_ahead(known):
                # NOTE: another node may have been a moment faster.
                await self.catch_up(room, feed)
                known = self.left_off(room, since)
            while feed.tail is None and known is not None and known != feed.position:
                if feed.reading is None:
                    reading = self.read_tail(room, feed, feed.history)
                    feed.reading = asyncio.get_running_loop().create_task(reading)
                await asyncio.wait({feed.reading})
                if self.away:
                    raise BackendUnavailable(self.away)
                known = self.left_off(room, since)
        except BackendUnavailable as error:
            feed.late = True
            if not self.away:
                self.lose(error.reason)
            raise
        return self.recall(room, since)

    def recall(self, room: str, since: Sequence[Position]) -> list[Entry] | None:
        """The same of what is here."""
        feed, known = self.feeds[room], self.left_off(room, since)
        if known is None or feed.position is None:
            return None
        if known == feed.position:
            return []
        if feed.tail is None:
            return None
        feed.tail_used = True
        return feed.tail.between(known, feed.position, feed.clock())

    async def read_tail(self, room: str, feed: Feed, history: History) -> None:
        """Fetch the last entries of a room, and keep them up to date from now on."""
        begun = feed.position
        assert begun is not None
        recorded: list[tuple[float, Entry]] = []
        feed.recorded = recorded
        try:
            before = Position(begun.epoch, max(0, begun.offset - history.messages))
            now, _, entries = await self.fetch(room, feed, before)
            # NOTE: after an outage the tail may have been made meanwhile, or the place is another one.
            if feed.recorded is recorded and now.epoch == begun.epoch and feed.knows(begun):
                fetched = [(at, entry) for at, entry in entries if is_at_most(entry, begun)]
                feed.keep_tail(history, [*fetched, *recorded])
        except BackendUnavailable as error:
            logger.info("the history of room %r cannot be read: %s", room, error)
            self.lose(error.reason)
        finally:
            if feed.recorded is recorded:
                feed.recorded = None
            feed.reading = None

    # Presence.

    def enter(self, room: str, presence: Presence) -> Awaitable[bool]:
        """A connection is in the room now."""
        others = self.here.setdefault(room, {})
        first_here = all(other.key != presence.key for other in others.values())
        if not others and room not in self.unsettled and not self.away:
            self.call_aside("has", NODES, self.incarnation, [room])
        others[presence.connection] = presence
        if self.away:
            return Answer(first_here)
        return self.tell_entered(room, presence, first_here)

    def tell_entered(self, room: str, presence: Presence, first_here: bool) -> asyncio.Future[bool]:
        """Tell the engine that somebody is there; what this process believes counts where that fails."""

        def know(first: int) -> bool:
            presence.known = presence.announced = True
            return first == 1

        joined, left = presence.joined, presence.left
        operation = (
            "enter",
            tag_of(room),
            presence.key,
            presence.connection,
            self.incarnation,
            None if joined is None or presence.announced else raw(joined.encode()),
            None if left is None else raw(left.encode()),
        )
        return self.calls.post(operation, know, lambda: first_here)

    def leave(self, room: str, presence: Presence, *, grace: bool) -> Awaitable[bool]:
        """A connection is not in the room any more."""
        others = self.here.get(room, {})
        if others.pop(presence.connection, None) is None:
            return Answer(False)
        last_here = all(other.key != presence.key for other in others.values())
        if self.away:
            self.unsaid.append((room, presence, grace))
            self.left_by(room)
            return Answer(last_here and not grace)
        return self.tell_left(room, presence, grace, last_here)

    def tell_left(
        self, room: str, presence: Presence, grace: bool, last_here: bool
    ) -> asyncio.Future[bool]:
        """Tell the engine that somebody is not there any more, or keep it to be told later."""
        ms = round(self.timing.grace_seconds * 1000) if grace and presence.told else 0

        def settle(gone: int) -> bool:
            if gone == 2:
                self.unsettled[room] = self.unsettled.get(room, 0) + 1
                self.settle_later(room, presence.key)
            self.left_by(room)
            return gone == 1

        def keep() -> bool:
            self.unsaid.append((room, presence, grace))
            return last_here and not grace

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
        self.later(
            self.timing.grace_seconds + SETTLE_MARGIN_SECONDS,
            lambda: self.run(self.settle(room, key)),
        )

    async def settle(self, room: str, key: str) -> None:
        """End a stay whose time of grace is over."""
        try:
            if self.away or await self.call("settle", tag_of(room), key):
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
        if room not in self.here and room not in self.unsettled:
            self.call_aside("had", NODES, self.incarnation, [room])

    async def present(self, room: str, user: str) -> bool:
        """Whether a user is in a room."""
        if not self.away:
            try:
                return bool(await self.call("present", tag_of(room), f"u{user}"))
            except BackendUnavailable:
                pass
        return any(presence.user == user for presence in self.here.get(room, {}).values())

    async def members(self, room: str) -> list[str]:
        """The users in a room; while the engine is away, those who are here."""
        if not self.away:
            try:
                flat = await self.call("members", tag_of(room))
            except BackendUnavailable:
                pass
            else:
                keys = zip(flat[::2], map(int, flat[1::2]), strict=True)
                return users_of([key.decode() for key, _ in sorted(keys, key=lambda pair: pair[1])])
        presences = self.here.get(room, {}).values()
        return users_of(list(dict.fromkeys(presence.key for presence in presences)))

    async def rooms(self, prefix: str) -> list[str]:
        """The rooms of all living nodes."""
        if self.away:
            raise BackendUnavailable(self.away)
        return await rooms_with_prefix(self.call, prefix)

    # Leases.

    async def acquire(self, name: str) -> Lease | float:
        """Ask for a lease."""
        if self.away:
            raise BackendUnavailable(self.away)
        asked_at = asyncio.get_running_loop().time()
        seconds = self.timing.expiry_seconds
        token = await self.call("acquire", NODES, name, self.node_id, round(seconds * 1000))
        if token > 0:
            return Lease(name, token, asked_at + seconds)
        return float(-token) / 1000

    async def renew(self, lease: Lease) -> bool:
        """Hold a lease for longer."""
        if self.away:
            raise BackendUnavailable(self.away)
        asked_at = asyncio.get_running_loop().time()
        seconds = self.timing.expiry_seconds
        if not await self.call("renew", NODES, lease.name, self.node_id, round(seconds * 1000)):
            return False
        lease.expires = asked_at + seconds
        return True

    async def release(self, lease: Lease) -> None:
        """Give a lease back."""
        self.call_aside("release", NODES, lease.name, self.node_id)


def is_at_most(entry: Entry, place: Position) -> bool:
    """Whether an entry is not behind a place of its epoch."""
    return entry.position is not None and entry.position.offset <= place.offset


def check_fence(offset: int) -> None:
    """Refuse what a worker has said whose place another one has taken.

    Raises:
        LeaseLost: That is so.
    """
    if offset == -1:
        raise LeaseLost("another worker has taken its place")


def see_end(done: asyncio.Future[Any]) -> None:
    """Nobody waits for the outcome."""
    if not done.cancelled():
        done.exception()
