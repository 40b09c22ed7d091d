"""P4, the views of pages: a page's picture of its rooms' members, from lists and from the joins and leaves after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .events import Closed, Event, Left, Listed, Opened, Page, Positioned, Received, excerpt
from .record import Record, Violation


@dataclass
class RoomView:
    """A page's view of a room.

    Attributes:
        users: The members.
        epoch: The epoch of the list's position.
        offset: The offset of the list's position: earlier joins and leaves are contained in it.
        is_partial: Whether the list was of one node only, so that a new one has to follow.
    """

    users: set[str]
    epoch: str
    offset: int
    is_partial: bool


@dataclass
class PageView:
    """A page's views of its rooms, updated as a client does it: it drops messages that it knows already.

    Attributes:
        user: The page's own user, whose messages count for nothing.
        rooms: The views; a room is missing before the first list.
        known: The last offset of each epoch.
        wrong: Why the last event did not agree with the view; empty if it did.
    """

    user: str
    rooms: dict[str, RoomView] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    wrong: str = ""

    def update(self, event: Event) -> None:
        """Apply an event."""
        self.wrong = ""
        if isinstance(event, Listed):
            users = {*event.users, self.user}
            view = RoomView(users, event.epoch, event.offset, event.is_partial)
            self.rooms[event.room] = view
        elif isinstance(event, Positioned):
            self.known[event.epoch] = event.offset
        elif isinstance(event, Received) and event.epoch:
            if event.offset <= self.known.get(event.epoch, 0):
                return
            self.known[event.epoch] = event.offset
            if event.type in ("joined", "left"):
                self.change(event)

    def change(self, event: Received) -> None:
        """Apply a join or leave."""
        user, view = event.payload["user"], self.rooms.get(event.payload["room"])
        if user == self.user or view is None:
            return
        if event.epoch == view.epoch and event.offset <= view.offset:
            return  # the list is newer than the position of the connection
        is_present = event.type == "joined"
        if (user in view.users) == is_present and not view.is_partial:
            state = "is already" if is_present else "is not"
            self.wrong = f"received {event.type} of {user}, who {state} in its view"
        (view.users.add if is_present else view.users.discard)(user)


def wrong_views(
    views: Iterable[tuple[str, PageView]], present: Mapping[str, set[str]]
) -> list[Violation]:
    """Find open pages whose view differs from the users that are present.

    Args:
        views: The names of the pages, with the views of the rooms where each is.
        present: The present users of each room.
    """
    found = []
    for name, view in views:
        for room, state in view.rooms.items():
            expected = present.get(room, set())
            missing, ghosts = sorted(expected - state.users), sorted(state.users - expected)
            if missing or ghosts:
                sentence = f"{name} has a wrong view of {room}: missing {missing}, ghosts {ghosts}"
                found.append(Violation("P4", sentence))
    return found


class Doubt:
    """A contradiction that a new list has to resolve.

    Attributes:
        until: The time until which that must have happened.
        index: The index of the event.
        sentence: What it is.
        is_excused: Whether a fault explains it.
    """

    __slots__ = ("index", "is_excused", "sentence", "until")

    def __init__(self, until: float, index: int, sentence: str, is_excused: bool) -> None:
        self.until = until
        self.index = index
        self.sentence = sentence
        self.is_excused = is_excused


def contradictions(page: Page, record: Record, rooms: Mapping[str, str]) -> list[Violation]:
    """Find joins and leaves that contradict a page's view, and losses without a new list.

    After a fault that may have lost changes such a contradiction is accepted if a new list resolves it in time.

    Args:
        page: The page.
        record: The record.
        rooms: The room of each epoch.
    """
    view, node = PageView(page.user), 0
    open_doubts: dict[str, Doubt] = {}
    positioned: set[str] = set()
    found: list[Violation] = []

    def report(doubt: Doubt, why: str) -> None:
        sentence = f"{page.name} {doubt.sentence}{why}"
        found.append(Violation("P4", sentence, excerpt(page, doubt.index)))

    def end(room: str, at: float) -> None:
        doubt = open_doubts.pop(room, None)
        if doubt is not None and at > doubt.until:
            report(doubt, f", and got no new list before {at:.2f}")

    for index, event in enumerate(page.events):
        view.update(event)
        room = ""
        sentence = view.wrong
        if isinstance(event, Left):
            break
        if isinstance(event, Opened):
            node = event.node
            positioned.clear()
        elif isinstance(event, Listed):
            end(event.room, event.at)
            room, sentence = event.room, "got a partial list" if event.is_partial else ""
        elif isinstance(event, Received):
            room = event.payload.get("room", "")
        elif isinstance(event, Positioned):
            room = rooms.get(event.epoch, "")
            if event.recovered is False and event.epoch in positioned:
                sentence = f"was told of a loss in {room}"
            positioned.add(event.epoch)
        elif isinstance(event, Closed):
            for name in list(open_doubts):
                end(name, event.at)
        if sentence and room:
            until = record.recovered_at(node, event.at) + record.heal_seconds
            doubt = Doubt(until, index, sentence, has_cause(record, room, node, event.at))
            if view.wrong and not doubt.is_excused:
                report(doubt, "")
            else:
                open_doubts.setdefault(room, doubt)
    return found


def has_cause(record: Record, room: str, node: int, at: float) -> bool:
    """Return whether changes of a room may have been missed on a node a short time ago."""
    since = at - record.heal_seconds
    return record.lost_data(room, since, at) or any(
        fault.node in (None, node) and fault.overlaps(since, at) for fault in record.faults
    )
