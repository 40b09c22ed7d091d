"""How a node hears its rooms: what is said in them, what was missed, and what those who come back have missed."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence

from ...errors import BackendUnavailable, failure_reason
from ...history import History, Position, last_known
from ...publication import Publication
from ...support.tasks import TaskSet
from ..base import Node
from .client import FAILURES
from .pipeline import Calls
from .pubsub import Listener
from .script import room_of, tag_of
from .stream import Feed

logger = logging.getLogger(__name__)


class Hearing:
    """The rooms that a node has open.

    Attributes:
        node: Who is given what is said.

    Args:
        calls: The way to the engine.
        listener: What listens to it.
        on_lost: Called with a room of which the engine may know nothing any more.
    """

    node: Node

    def __init__(self, calls: Calls, listener: Listener, on_lost: Callable[[str], None]) -> None:
        self.calls = calls
        self.listener = listener
        self.on_lost = on_lost
        self.feeds: dict[str, Feed] = {}
        self.unclosed: set[str] = set()
        """Rooms that nobody needs here any more, which the engine has not been told."""
        self.background = TaskSet()

    @property
    def late(self) -> list[str]:
        """The rooms where somebody waits to be told what was missed in an outage."""
        return [room for room, feed in self.feeds.items() if feed.late]

    def on_history_lost(self, room: str) -> None:
        """The engine has lost what was said in a room, and perhaps who is there."""
        self.on_lost(room)
        self.node.on_history_lost(room)

    def hear(self, tag: str, data: bytes) -> None:
        """Take what was said in a room."""
        head, _, rest = data.partition(b"\n")
        room = room_of(tag)
        feed = self.feeds.get(room)
        if feed is None:
            return
        entry = Publication.decode(rest)
        if head != b"-":
            epoch, offset, shown = head.split(b":")
            entry.number(Position(epoch.decode(), int(offset)), shown=shown == b"1")
        if feed.hear(entry):
            self.background.create_task(self.catch_up_alone(room, feed))

    async def subscribe(self, room: str, history: History | None) -> None:
        """Begin to listen to a room, or wait until that has begun."""
        loop = asyncio.get_running_loop()
        feed = self.feeds.get(room)
        if feed is None:
            feed = Feed(
                lambda entry: self.node.deliver(room, entry),
                lambda: self.on_history_lost(room),
                loop.time,
            )
            self.feeds[room] = feed
        feed.holders += 1
        if feed.opening is None or (history is not None and feed.history is None):
            feed.history = history or feed.history
            feed.opening = self.background.create_task(self.begin(room, feed))
        if not feed.opening.done():
            try:
                await asyncio.wait({feed.opening})
            except BaseException:
                self.unsubscribe(room)
                raise
        if history is not None and (feed.position is None or self.calls.away):
            feed.late = True

    async def begin(self, room: str, feed: Feed) -> None:
        """Listen first, then ask where the room stands: nothing can be missed in between."""
        try:
            await self.listener.add(self.calls.engine.channel(tag_of(room)))
        except FAILURES as error:
            reason = failure_reason(error)
            self.lose(room, reason)
            # NOTE: also where the node is just coming back: it would be deaf to this room.
            self.listener.restart(reason)
            return
        if self.listener.listening and self.is_open(room, feed):
            await self.catch_up_alone(room, feed)

    def unsubscribe(self, room: str) -> None:
        """Listen to a room no more, if nobody else needs it."""
        feed = self.feeds[room]
        feed.holders -= 1
        if feed.holders:
            return
        del self.feeds[room]
        self.unclosed.add(room)
        channel = self.calls.engine.channel(tag_of(room))
        self.listener.remove(channel, lambda: self.tell_closed(room))

    def tell_closed(self, room: str) -> None:
        """Let the engine forget a room to which nobody listens."""
        self.unclosed.discard(room)
        if room not in self.feeds:
            operation = ("close", tag_of(room))
            self.calls.post(operation, None, lambda: self.unclosed.add(room))

    def close_rest(self) -> None:
        """Say of which rooms that could not be said while the engine was away."""
        for room in tuple(self.unclosed):
            self.tell_closed(room)

    async def catch_up(self, room: str, feed: Feed) -> None:
        """Fetch what is missing, until nothing is.

        Raises:
            BackendUnavailable: The engine is away.
        """
        while self.is_open(room, feed):
            known = feed.position
            now, shown, entries = await self.fetch(room, feed, known)
            if known is None and feed.position is not None:
                continue  # another fetch was faster, and this one's place is of no use
            if self.is_open(room, feed) and feed.fill(now, shown, [entry for _, entry in entries]):
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
        begun = feed.position
        recorded: list[tuple[float, Publication]] = []
        feed.recorded = recorded
        now, shown, entries = await self.fetch(room, feed, begun, everything=True)
        if not self.is_open(room, feed):
            return
        known = begun or now
        old = [(at, e) for at, e in entries if known.epoch == now.epoch and is_at_most(e, known)]
        feed.fill(now, shown, [entry for _, entry in entries[len(old) :]])
        feed.keep_tail(feed.history, [*old, *recorded])
        feed.recorded = None
        if feed.behind:
            await self.catch_up(room, feed)
        if self.is_open(room, feed):
            feed.late = False
            self.node.on_resync(room)

    def is_open(self, room: str, feed: Feed) -> bool:
        """Whether a feed is still that of a room: one that is closed and opened again has another."""
        return self.feeds.get(room) is feed

    def forget_waiting(self) -> None:
        """What was heard before a fetch that is still to be made is in it, if the engine has it at all."""
        for feed in self.feeds.values():
            feed.waiting.clear()

    def catch_up_later(self) -> None:
        """Give those beside what goes on who came while the rest was being caught up with."""
        for room in self.late:
            feed = self.feeds[room]
            # NOTE: whoever comes back meanwhile waits for it, as for the tail that it makes.
            feed.reading = self.background.create_task(self.catch_up_beside(room, feed))

    async def catch_up_beside(self, room: str, feed: Feed) -> None:
        """Catch up with one of them."""
        try:
            await self.catch_up_late(room, feed)
        except BackendUnavailable as error:
            self.lose(room, error.reason)
        finally:
            feed.reading = None

    async def catch_up_alone(self, room: str, feed: Feed) -> None:
        """The same beside what goes on."""
        try:
            await self.catch_up(room, feed)
        except BackendUnavailable as error:
            self.lose(room, error.reason)

    def lose(self, room: str, reason: str) -> None:
        """Nothing can be fetched: begin anew with all rooms, so that this one does not stay deaf."""
        logger.info("room %r is caught up with later: %s", room, reason)
        if not self.calls.away:
            self.calls.lose(reason)

    async def fetch(
        self, room: str, feed: Feed, known: Position | None, *, everything: bool = False
    ) -> tuple[Position, bool, list[tuple[float, Publication]]]:
        """Ask where a room stands, and what followed a position, or everything that there is.

        Returns:
            The place of the last entry, whether clients are told places, and each entry with the time on
            this process's clock at which it was said.
        """
        history = feed.history
        epoch, offset, shown, now, flat = await self.calls.call(
            "open",
            tag_of(room),
            secrets.token_hex(8),
            0 if history is None else history.messages,
            0 if history is None else round(history.seconds * 1000),
            None if known is None else known.epoch,
            None if known is None else known.offset,
            everything,
        )
        place = Position(epoch.decode(), int(offset))
        clock = feed.clock()
        entries = []
        for index in range(0, len(flat), 3):
            entry = Publication.decode(flat[index + 2])
            number = int(flat[index].partition(b"-")[0])
            entry.number(Position(place.epoch, number), shown=bool(shown))
            entries.append((clock - (int(now) - int(flat[index + 1])) / 1000, entry))
        return place, bool(shown), entries

    def position(self, room: str) -> Position | None:
        """The place of the last entry that was delivered here."""
        feed = self.feeds.get(room)
        return feed.position if feed is not None and feed.shown else None

    async def recover(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """All that was said after a position.

        Of those who come back together only the first one asks the engine; the others find the tail of
        the room here.
        """
        feed = self.feeds[room]
        if feed.history is None:
            return None
        try:
            if self.calls.away:
                raise BackendUnavailable(self.calls.away)
            known = last_known(self.position(room), since)
            if known is None or feed.is_ahead(known):
                # NOTE: another node may have been a moment faster.
                await self.catch_up(room, feed)
                known = last_known(self.position(room), since)
            while feed.tail is None and known is not None and known != feed.position:
                if feed.reading is None:
                    reading = self.read_tail(room, feed, feed.history)
                    feed.reading = self.background.create_task(reading)
                await asyncio.wait({feed.reading})
                if self.calls.away:
                    raise BackendUnavailable(self.calls.away)
                known = last_known(self.position(room), since)
        except BackendUnavailable as error:
            feed.late = True
            if not self.calls.away:
                self.calls.lose(error.reason)
            raise
        return self.recover_local(room, since)

    def recover_local(self, room: str, since: Sequence[Position]) -> list[Publication] | None:
        """The same of what is here."""
        feed, known = self.feeds[room], last_known(self.position(room), since)
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
        recorded: list[tuple[float, Publication]] = []
        feed.recorded = recorded
        try:
            before = Position(begun.epoch, max(0, begun.offset - history.messages))
            now, _, entries = await self.fetch(room, feed, before)
            # NOTE: after an outage the tail may have been made meanwhile, or the place is another one.
            if feed.recorded is recorded and now.epoch == begun.epoch and feed.knows(begun):
                fetched = [(at, entry) for at, entry in entries if is_at_most(entry, begun)]
                feed.keep_tail(history, [*fetched, *recorded])
            elif now.epoch != begun.epoch or now.offset < begun.offset:
                await self.catch_up(room, feed)
        except BackendUnavailable as error:
            logger.info("the history of room %r cannot be read: %s", room, error)
            self.calls.lose(error.reason)
        finally:
            if feed.recorded is recorded:
                feed.recorded = None
            feed.reading = None


def is_at_most(entry: Publication, place: Position) -> bool:
    """Whether an entry is not behind a place of its epoch."""
    return entry.position is not None and entry.position.offset <= place.offset
