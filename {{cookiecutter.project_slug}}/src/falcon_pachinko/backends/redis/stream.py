"""How one node hears one room: in order, without a gap, or knowing that there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ...history import History, Position
from ...publication import Publication
from ..buffer import Tail

# What is heard while something is missing; more than this and it is fetched again instead.
MAX_WAITING = 10_000


class Feed:
    """The entries of one room on their way from the engine to its members.

    Entries come live, numbered by the engine. Where a number is missing they wait until what lies between
    has been fetched. Before the first :meth:`fill` nothing is known, and all of them wait.

    Attributes:
        holders: How many need the room.
        history: What its members declare.
        position: The place of the last entry that was delivered.
        shown: Whether clients are told positions.
        behind: Whether something is missing that has to be fetched.
        late: Whether somebody came back while the engine was away, and is still to be given what was missed.
        opening: What begins to listen to the room.
        tail: The last entries, kept only as long as clients come back for them.
        reading: What fetches the tail.
        recorded: What is delivered meanwhile, each with the time.

    Args:
        deliver: Takes entries in their order.
        on_history_lost: Called where something is missing that cannot be had any more; the position is the
            one to go on from.
        clock: Tells the time in seconds, never going back.
    """

    __slots__ = (
        "behind",
        "clock",
        "deliver",
        "history",
        "holders",
        "late",
        "on_history_lost",
        "opening",
        "position",
        "reading",
        "recorded",
        "shown",
        "tail",
        "tail_used",
        "waiting",
    )

    def __init__(
        self,
        deliver: Callable[[Publication], None],
        on_history_lost: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.deliver = deliver
        self.on_history_lost = on_history_lost
        self.clock = clock
        self.holders = 0
        self.history: History | None = None
        self.position: Position | None = None
        self.shown = False
        self.behind = True
        self.late = False
        self.waiting: list[Publication] = []
        self.opening: asyncio.Task[None] | None = None
        self.tail: Tail | None = None
        self.tail_used = False
        self.reading: asyncio.Task[None] | None = None
        self.recorded: list[tuple[float, Publication]] | None = None

    def hear(self, entry: Publication) -> bool:
        """Take an entry that comes live; whether something before it has to be fetched."""
        if self.behind:
            if len(self.waiting) < MAX_WAITING:
                self.waiting.append(entry)
            return False
        return not self.take(entry)

    def take(self, entry: Publication) -> bool:
        """Deliver the next entry, or one that is delivered already; ``False`` if it has to wait."""
        place, here = entry.position, self.position
        if place is not None:
            if here is None or place.epoch != here.epoch or place.offset > here.offset + 1:
                self.behind = True
                self.waiting.append(entry)
                return False
            if place.offset <= here.offset:
                return True
            self.position = place
            if self.tail is not None:
                self.tail.add(entry, self.clock())
            if self.recorded is not None:
                self.recorded.append((self.clock(), entry))
        self.deliver(entry)
        return True

    def fill(self, now: Position, shown: bool, fetched: Iterable[Publication]) -> bool:
        """Deliver what was missing, then what has waited for it.

        Args:
            now: The place of the last entry in the engine.
            shown: Whether clients are told positions.
            fetched: What the engine still has after :attr:`position`, or of another epoch all it has; up
                to ``now``, in order.

        Returns:
            Whether nothing is missing any more.
        """
        entries = list(fetched)
        here, self.shown = self.position, shown
        first = Position(now.epoch, now.offset - len(entries))
        if here is None:
            self.position = now
        elif here.epoch != now.epoch or first.offset > here.offset:
            # NOTE: what is left of the gap comes behind the word that there is one.
            self.tail = None
            if self.recorded is not None:
                self.recorded.clear()
            self.position = first
            self.on_history_lost()
        self.behind = False
        if here is not None:
            for entry in entries:
                self.take(entry)
        waiting, self.waiting = self.waiting, []
        for entry in waiting:
            # NOTE: what an engine said before it lost its data belongs to nothing that is there now.
            if entry.position is not None and entry.position.epoch != now.epoch:
                continue
            if self.behind:
                self.waiting.append(entry)
            else:
                self.take(entry)
        return not self.behind

    def knows(self, place: Position) -> bool:
        """Whether a place is one that has been, in the present epoch."""
        here = self.position
        return here is not None and here.epoch == place.epoch and place.offset <= here.offset

    def is_ahead(self, place: Position) -> bool:
        """Whether a place is one of the present epoch that has not been here yet."""
        here = self.position
        return here is not None and here.epoch == place.epoch and place.offset > here.offset

    def age_tail(self) -> None:
        """Called from time to time: let go of a tail that nobody has asked for since the last call."""
        if not self.tail_used:
            self.tail = None
        self.tail_used = False

    def keep_tail(self, history: History, entries: Iterable[tuple[float, Publication]]) -> None:
        """Keep the last entries from now on, beginning with some that end at :attr:`position`.

        Args:
            history: How many and how old.
            entries: Each with the time when it was said.
        """
        self.tail = Tail(history)
        self.tail_used = True
        for said_at, entry in entries:
            self.tail.add(entry, said_at)
