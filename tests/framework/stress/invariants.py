"""What must be true of all that clients of a cluster have recorded; nothing here waits or knows a socket.

Times are seconds on one clock, that of the process in which all clients live. What is said comes as
``{"type": "said", "payload": {"key", "room", "who", "user", "without"}}`` where the key is said once only,
``who`` is the page that said it and ``without`` is ``"self"``, ``"user"`` or ``""``; who comes and goes as
``joined`` and ``left`` with ``room`` and ``user``. An epoch stands for one life of one room.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Shown of a record beside what is wrong in it.
SHOWN_EVENTS = 12
# How much later than a server a client may know of something.
MARGIN_SECONDS = 1.0
# How long a node may need to notice that the engine is there again.
BACK_SECONDS = 3.0
NUMBERED = ("said", "joined", "left")
EXPECTED_CODES = {1000, 1001, 1005, 1006, 1012}


@dataclass(frozen=True, slots=True)
class Opened:
    """A page has a connection.

    Attributes:
        at: When.
        node: To which node.
        since: What the page knew, an offset by epoch.
    """

    at: float
    node: int
    since: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Positioned:
    """A page was told a position; ``recovered`` is ``None`` where the server did not say."""

    at: float
    epoch: str
    offset: int
    recovered: bool | None = None


@dataclass(frozen=True, slots=True)
class Got:
    """A page was sent a message; without a position, ``epoch`` is empty."""

    at: float
    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    epoch: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """A page has asked to leave its rooms: from now on nothing is promised to it, nor of its user."""

    at: float


@dataclass(frozen=True, slots=True)
class Closed:
    """A page's connection has ended."""

    at: float
    code: int


Event = Opened | Positioned | Got | Left | Closed


class Stay(NamedTuple):
    """One connection of a page, from its beginning to its end.

    Attributes:
        begun: When.
        end: When; infinity where it is open.
        node: On which node.
        left: Whether it ended by leaving the rooms.
    """

    begun: float
    end: float
    node: int
    left: bool


@dataclass
class Page:
    """All that one page has seen, from its load to its end, over all of its connections.

    Attributes:
        name: Its own.
        user: Whose it is.
        rooms: Which rooms it joins.
        events: In the order in which they came.
    """

    name: str
    user: str
    rooms: tuple[str, ...]
    events: list[Event] = field(default_factory=list)

    def stays(self) -> Iterator[Stay]:
        """Its connections, one after the other."""
        opened: Opened | None = None
        for event in self.events:
            if isinstance(event, Opened):
                opened = event
            elif isinstance(event, (Left, Closed)) and opened is not None:
                yield Stay(opened.at, event.at, opened.node, isinstance(event, Left))
                opened = None
        if opened is not None:
            yield Stay(opened.at, float("inf"), opened.node, False)


@dataclass(frozen=True, slots=True)
class Publish:
    """One attempt to say something in a room.

    Attributes:
        key: What is in the message.
        room: Where.
        who: The page; for a publisher outside the cluster a name that is no page's.
        user: The page's user, or empty.
        without: ``"self"``, ``"user"`` or ``""``.
        ephemeral: Whether it may be lost.
        begun: When.
        ended: When the answer came.
        outcome: ``"accepted"``, ``"refused"``, ``"cut off"`` (the connection ended before) or ``"unanswered"``.
    """

    key: str
    room: str
    who: str
    user: str
    without: str
    ephemeral: bool
    begun: float
    ended: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault that was made; ``node`` is ``None`` where it was the engine's."""

    kind: str
    node: int | None
    begun: float
    ended: float


@dataclass(frozen=True)
class Violation:
    """An invariant that is broken, in a sentence, and the part of the record that shows it."""

    invariant: str
    sentence: str
    record: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.invariant}: {self.sentence}", *self.record])


@dataclass
class Segment:
    """What a page saw of one epoch without a break that it was told of.

    Attributes:
        page: Who.
        epoch: Of what.
        start: The offset from which on it has to have everything.
        end: The last offset that it knows.
        begun: When it was told the start.
        ended: When it last learned something.
        messages: By offset.
    """

    page: Page
    epoch: str
    start: int
    end: int
    begun: float
    ended: float
    messages: dict[int, Got] = field(default_factory=dict)


@dataclass
class Record:
    """Everything that is known of a run.

    Attributes:
        pages: All that there were.
        publishes: All that were tried.
        troubles: All faults.
        history_messages: How many messages a room keeps.
        history_seconds: For how long.
        grace_seconds: How long a user may be away without having gone.
        expiry_seconds: How long a node may be away.
    """

    pages: list[Page]
    publishes: list[Publish] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    history_messages: int = 100
    history_seconds: float = 10.0
    grace_seconds: float = 0.5
    expiry_seconds: float = 2.0


def check(record: Record) -> list[Violation]:
    """All that is broken, and nothing if all is well."""
    segments: list[Segment] = []
    found: list[Violation] = []
    for page in record.pages:
        seen, wrong = follow(page, record)
        segments += seen
        found += wrong
    found += differences(segments)
    found += gaps(segments)
    found += wrong_exclusions(segments)
    found += doubles(record.pages)
    found += unfounded_epochs(record, segments)
    found += wrong_edges(segments)
    found += false_farewells(record, segments)
    found += lost_publishes(record, segments)
    found += wrong_ends(record.pages)
    return found


def follow(page: Page, record: Record) -> tuple[list[Segment], list[Violation]]:
    """What one page saw of each epoch, and what is wrong with it by itself.

    It keeps to what a client does: what it knows already, it drops.
    """
    open_segments: dict[str, Segment] = {}
    segments: list[Segment] = []
    found: list[Violation] = []
    seen: set[tuple[str, int]] = set()
    since: Mapping[str, int] = {}
    node = 0
    positioned: set[str] = set()

    def complain(invariant: str, sentence: str, place: int) -> None:
        found.append(Violation(invariant, f"{page.name} {sentence}", excerpt(page, place)))

    for place, event in enumerate(page.events):
        if isinstance(event, Left):
            break
        if isinstance(event, Opened):
            since, node = event.since, event.node
            positioned.clear()
        elif isinstance(event, Positioned):
            segment = open_segments.get(event.epoch)
            name = f"{event.epoch}:{event.offset}"
            joining = event.epoch not in positioned
            positioned.add(event.epoch)
            if event.recovered:
                if segment is None:
                    complain("I1", f"recovered {name}, of which it knew nothing", place)
                elif event.offset < segment.end:
                    complain("I1", f"was put back to {name} from {segment.end}", place)
                else:
                    segment.end, segment.ended = event.offset, event.at
                    continue
            elif event.recovered is None and since and (segment or len(page.rooms) == 1):
                complain("I1", f"was not told at {name} whether it has missed anything", place)
            elif event.recovered is False and segment is not None:
                missed = event.offset - segment.end
                away = event.at - segment.ended
                kept = away < record.history_seconds * 0.7
                few = missed <= record.history_messages * 0.9
                if few and kept and not (joining and was_away(record, node, event.at)):
                    complain(
                        "I1",
                        f"was not given the {missed} messages up to {name} though it was away"
                        f" for {away:.1f} s only",
                        place,
                    )
            segment = Segment(page, event.epoch, event.offset, event.offset, event.at, event.at)
            open_segments[event.epoch] = segment
            segments.append(segment)
        elif isinstance(event, Got) and event.epoch:
            segment = open_segments.get(event.epoch)
            name = f"{event.epoch}:{event.offset}"
            if segment is None:
                complain("I1", f"got {name} before it was told of that epoch", place)
                segment = Segment(page, event.epoch, event.offset, event.offset, event.at, event.at)
                open_segments[event.epoch] = segment
                segments.append(segment)
            elif event.offset > segment.end:
                segment.end, segment.ended = event.offset, event.at
            elif (event.epoch, event.offset) not in seen and event.offset > segment.start:
                complain("I1", f"got {name} after {segment.end}: an inversion", place)
            else:
                continue  # as its client does
            segment.messages[event.offset] = event
            seen.add((event.epoch, event.offset))
        elif isinstance(event, Got) and event.type in NUMBERED:
            complain("I1", f"got {event.type} without a position", place)
    return segments, found


def was_away(record: Record, node: int, at: float) -> bool:
    """Whether the engine was away for a node, or may not have been there again for long."""
    return any(
        trouble.node in (None, node) and trouble.begun <= at <= trouble.ended + BACK_SECONDS
        for trouble in record.troubles
    )


def differences(segments: list[Segment]) -> list[Violation]:
    """Where one position stands for two messages, or an epoch for two rooms."""
    found = []
    firsts: dict[tuple[str, int], tuple[Segment, Got]] = {}
    rooms: dict[str, tuple[Segment, Got]] = {}
    for segment in segments:
        for offset, got in segment.messages.items():
            name = f"{segment.epoch}:{offset}"
            other, same = firsts.setdefault((segment.epoch, offset), (segment, got))
            if (same.type, same.payload) != (got.type, got.payload):
                sentence = (
                    f"{name} is one message for {other.page.name}, another for {segment.page.name}"
                )
                found.append(Violation("I1", sentence, (str(same), str(got))))
            other, same = rooms.setdefault(segment.epoch, (segment, got))
            if same.payload.get("room") != got.payload.get("room"):
                sentence = f"the epoch {segment.epoch} is of two rooms"
                found.append(Violation("I1", sentence, (str(same), str(got))))
    return found


def gaps(segments: list[Segment]) -> list[Violation]:
    """Where a page misses what another one saw, or another one's publish."""
    everything: dict[str, dict[int, tuple[Segment, Got]]] = defaultdict(dict)
    for segment in segments:
        for offset, got in segment.messages.items():
            everything[segment.epoch].setdefault(offset, (segment, got))
    found = []
    for segment in segments:
        missing = [
            offset
            for offset, (_, got) in everything[segment.epoch].items()
            if segment.start < offset <= segment.end
            and offset not in segment.messages
            and not excluded(segment.page, got)
            and not about_itself(segment.page, got)
        ]
        if missing:
            witness, got = everything[segment.epoch][min(missing)]
            sentence = (
                f"{segment.page.name} has {segment.epoch} from {segment.start} to {segment.end}"
                f" but not {sorted(missing)}, of which {witness.page.name} saw {got}"
            )
            place = place_of(segment, min(missing))
            found.append(Violation("I1", sentence, excerpt(segment.page, place)))
    return found


def wrong_exclusions(segments: list[Segment]) -> list[Violation]:
    """Who saw what it was to be left out of."""
    return [
        Violation(
            "I1",
            f"{segment.page.name} saw what it is excluded from",
            excerpt(segment.page, place_of(segment, offset)),
        )
        for segment in segments
        for offset, got in segment.messages.items()
        if excluded(segment.page, got)
    ]


def doubles(pages: list[Page]) -> list[Violation]:
    """Where something was said once and has two positions, or came twice without one."""
    found = []
    for page in pages:
        places: dict[str, Got] = {}
        for place, event in enumerate(page.events):
            if not isinstance(event, Got) or "key" not in event.payload or event.type == "spoken":
                continue
            first = places.setdefault(event.payload["key"], event)
            again = first is not event and (
                not event.epoch or (first.epoch, first.offset) != (event.epoch, event.offset)
            )
            if again:
                sentence = f"{page.name} got {event.payload['key']} twice"
                found.append(Violation("I1", sentence, (str(first), *excerpt(page, place))))
    return found


def unfounded_epochs(record: Record, segments: list[Segment]) -> list[Violation]:
    """Where a room began anew though the engine had not lost it and somebody had just been there."""
    rooms: dict[str, str] = {}
    lives: dict[str, list[float]] = {}
    for segment in segments:
        for got in segment.messages.values():
            rooms[segment.epoch] = got.payload["room"]
        if len(segment.page.rooms) == 1:
            rooms[segment.epoch] = segment.page.rooms[0]
        life = lives.setdefault(segment.epoch, [segment.begun, segment.ended])
        life[:] = min(life[0], segment.begun), max(life[1], segment.ended)
    found = []
    for room in sorted(set(rooms.values())):
        epochs = sorted((e for e, r in rooms.items() if r == room), key=lambda epoch: lives[epoch])
        for old, new in itertools.pairwise(epochs):
            ended, begun = lives[old][1], lives[new][0]
            emptied = any(
                trouble.kind == "restart engine"
                and trouble.begun <= begun
                and trouble.ended >= lives[old][0]
                for trouble in record.troubles
            )
            if not emptied and begun - ended < record.history_seconds * 0.5:
                sentence = (
                    f"{room} began anew as {new} at {begun:.2f} though the engine was not emptied"
                    f" and {old} was seen from {lives[old][0]:.2f} to {ended:.2f}"
                )
                found.append(Violation("I1", sentence))
    return found


def wrong_edges(segments: list[Segment]) -> list[Violation]:
    """Where one observer saw a user come twice or go twice."""
    found = []
    for segment in segments:
        last: dict[str, tuple[int, str]] = {}
        for offset, got in sorted(segment.messages.items()):
            if got.type not in ("joined", "left") or about_itself(segment.page, got):
                continue
            user = got.payload["user"]
            before, what = last.get(user, (0, ""))
            if what == got.type:
                sentence = (
                    f"{segment.page.name} saw {what} of {user} in {got.payload['room']} twice,"
                    f" at {segment.epoch}:{before} and {offset}"
                )
                place = place_of(segment, offset)
                found.append(Violation("I2", sentence, excerpt(segment.page, place)))
            last[user] = offset, got.type
    return found


def false_farewells(record: Record, segments: list[Segment]) -> list[Violation]:
    """Where users were said to have gone more often than they can have.

    Somebody may have gone when no page of theirs was in the room for more than half of the grace time (a
    server sees that time longer than a client), when rooms were left, and when a node was away for long. Nobody
    knows of those on a node that is away, nor of anybody before the nodes are back where an engine has begun empty:
    whoever of the same user goes meanwhile may be the last one.
    """
    told: dict[tuple[str, str], dict[tuple[str, int], Got]] = defaultdict(dict)
    for segment in segments:
        for offset, got in segment.messages.items():
            if got.type == "left":
                about = got.payload["room"], got.payload["user"]
                told[about].setdefault((segment.epoch, offset), got)
    stays = stays_by_user(record)
    found = []
    for (room, user), farewells in sorted(told.items()):
        possible, reasons = possible_ends(record, stays[room, user])
        if len(farewells) > possible:
            sentence = (
                f"{user} was said to have left {room} {len(farewells)} times,"
                f" but can have gone {possible} times only"
            )
            lines = [f"{name}: {got}" for name, got in sorted(farewells.items())]
            found.append(Violation("I2", sentence, (*lines, *reasons)))
    return found


def possible_ends(record: Record, stays: list[Stay]) -> tuple[int, list[str]]:
    """How often a user can have gone, and why."""
    reasons = []
    until, patience = float("-inf"), 0.0
    for stay in sorted(stays):
        if float("-inf") < until < stay.begun - patience:
            reasons.append(f"away from {until:.2f} to {stay.begun:.2f}")
        reasons.append(f"    on node {stay.node} from {stay.begun:.2f} to {stay.end:.2f}")
        reasons += [
            f"{trouble.kind} of node {stay.node} from {trouble.begun:.2f} to {trouble.ended:.2f}"
            for trouble in record.troubles
            if trouble.node == stay.node
            and trouble.ended - trouble.begun > record.expiry_seconds / 2
            and trouble.begun < stay.end
            and trouble.ended > stay.begun
        ]
        reasons += [
            f"gone at {stay.end:.2f} while nobody knew of node {other.node}"
            for other in stays
            if other.begun <= stay.end < other.end and is_unknown(record, other.node, stay.end)
        ][:1]
        if stay.end > until:
            until, patience = stay.end, 0.0 if stay.left else record.grace_seconds / 2
    if stays and until < float("inf"):
        reasons.append(f"away from {until:.2f} on")
    return sum(not reason.startswith(" ") for reason in reasons), reasons


def is_unknown(record: Record, node: int, at: float) -> bool:
    """Whether the others may not have known of those on a node, at a time or within the grace time after it."""
    return any(
        trouble.begun <= at + record.grace_seconds
        and at <= trouble.ended + BACK_SECONDS
        and (
            trouble.kind == "restart engine"
            or (trouble.node == node and trouble.ended - trouble.begun > record.expiry_seconds / 2)
        )
        for trouble in record.troubles
    )


def lost_publishes(record: Record, segments: list[Segment]) -> list[Violation]:
    """What was accepted and did not arrive, and what was not answered at all.

    It had to arrive at a page that was told its position before the publish began, and that saw in the same
    life of the room something that was begun after the publish had ended.
    """
    begun = {publish.key: publish.begun for publish in record.publishes}
    by_room: dict[str, list[tuple[Segment, float, set[str]]]] = defaultdict(list)
    for segment in segments:
        keys = {g.payload["key"] for g in segment.messages.values() if g.type == "said"}
        rooms = {g.payload["room"] for g in segment.messages.values()}
        latest = max((begun.get(key, 0.0) for key in keys), default=0.0)
        for room in rooms:
            by_room[room].append((segment, latest, keys))
    found = []
    for publish in record.publishes:
        if publish.outcome == "unanswered":
            found.append(Violation("I3", f"nobody answered {publish}"))
        if publish.outcome != "accepted" or publish.ephemeral:
            continue
        payload = {"who": publish.who, "user": publish.user, "without": publish.without}
        for segment, latest, keys in by_room[publish.room]:
            had_to = segment.begun <= publish.begun and publish.ended <= latest
            left_out = excluded(segment.page, Got(0.0, "said", payload))
            if had_to and not left_out and publish.key not in keys:
                sentence = f"{segment.page.name} never got what was accepted: {publish}"
                shown = (f"it saw {segment.epoch} from {segment.start} to {segment.end}",)
                found.append(Violation("I3", sentence, shown))
    return found


def wrong_ends(pages: list[Page]) -> list[Violation]:
    """Connections that ended, and answers that came, for no reason that was given."""
    found = []
    for page in pages:
        for place, event in enumerate(page.events):
            if isinstance(event, Closed) and event.code not in EXPECTED_CODES:
                sentence = f"a connection of {page.name} was closed with {event.code}"
                found.append(Violation("I0", sentence, excerpt(page, place)))
            error = (
                event.payload if isinstance(event, Got) and event.type == "serverError" else None
            )
            if error is not None and error.get("code") != "unavailable":
                sentence = f"{page.name} was answered {error}"
                found.append(Violation("I0", sentence, excerpt(page, place)))
    return found


def wrong_members(
    living: Mapping[str, set[str]], told: Mapping[int, Mapping[str, list[str]]]
) -> list[Violation]:
    """Where a node does not know who is in which room.

    Args:
        living: The users by room, without empty rooms.
        told: What each node says of all rooms in which it knows somebody.
    """
    found = []
    for node, rooms in sorted(told.items()):
        lines = []
        for room in sorted({*living, *rooms}):
            expected, answered = living.get(room, set()), rooms.get(room, [])
            missing = sorted(expected - set(answered))
            ghosts = sorted(set(answered) - expected)
            twice = sorted(user for user, count in Counter(answered).items() if count > 1)
            if missing or ghosts or twice:
                lines.append(f"{room}: missing {missing}, ghosts {ghosts}, twice {twice}")
        if lines:
            sentence = f"node {node} is wrong about the members of {len(lines)} rooms"
            found.append(Violation("I2", sentence, tuple(lines)))
    return found


def wrong_last_edges(
    pages: Iterable[Page], record: Record, living: Mapping[str, set[str]]
) -> list[Violation]:
    """Where a page that is there at the end has not been told who has come and who has gone.

    Args:
        pages: Those that are there.
        record: All that is known.
        living: The users by room.
    """
    stays = stays_by_user(record)
    found = []
    for page in pages:
        newest: dict[str, Segment] = {}
        for segment in follow(page, record)[0]:
            for got in segment.messages.values():
                newest[got.payload["room"]] = segment
        for room, segment in newest.items():
            last: dict[str, tuple[int, str]] = {}
            for offset, got in sorted(segment.messages.items()):
                if got.type in ("joined", "left") and not about_itself(page, got):
                    last[got.payload["user"]] = offset, got.type
            for user in sorted(user for place, user in stays if place == room):
                there = user in living.get(room, ())
                offset, what = last.get(user, (segment.end, ""))
                if not what:
                    what = unseen_edge(record, segment, stays[room, user])
                if user != page.user and what and (what == "joined") != there:
                    truth = "is there" if there else "is not there"
                    sentence = f"{page.name} believes that {user} {what} in {room}, who {truth}"
                    line = str(stays[room, user])
                    shown = (line, *excerpt(page, place_of(segment, offset)))
                    found.append(Violation("I2", sentence, shown))
    return found


def unseen_edge(record: Record, segment: Segment, stays: list[Stay]) -> str:
    """What a page has to believe of a user about whom it was told nothing; empty if it cannot know.

    Who came after it, of whom it was told nothing, ``left`` for it; and who was there before ``joined``.
    """
    if min(stay.begun for stay in stays) > segment.begun + MARGIN_SECONDS:
        return "left"
    for stay in stays:
        registered = (
            stay.begun < segment.begun - MARGIN_SECONDS
            and stay.end > segment.begun + record.expiry_seconds + MARGIN_SECONDS
        )
        cut_off = any(t.node == stay.node and t.ended > segment.begun for t in record.troubles)
        if registered and not cut_off:
            return "joined"
    return ""


def stays_by_user(record: Record) -> dict[tuple[str, str], list[Stay]]:
    """When users were in rooms, by room and user."""
    stays: dict[tuple[str, str], list[Stay]] = defaultdict(list)
    for page in record.pages:
        for stay in page.stays():
            for room in page.rooms:
                stays[room, page.user].append(stay)
    return stays


def excluded(page: Page, got: Got) -> bool:
    """Whether a page is not to see something that was said."""
    without = got.payload.get("without", "")
    if without == "user":
        return bool(got.payload["user"] == page.user)
    return bool(without == "self" and got.payload["who"] == page.name)


def about_itself(page: Page, got: Got) -> bool:
    """Whether it is about the coming and going of the page's own user, which a page may see or not."""
    return got.type in ("joined", "left") and got.payload["user"] == page.user


def place_of(segment: Segment, offset: int) -> int:
    """Where among its events a page learned of an offset or of what followed it."""
    for place, event in enumerate(segment.page.events):
        if not isinstance(event, (Got, Positioned)) or event.epoch != segment.epoch:
            continue
        if event.offset >= offset and event.at >= segment.begun:
            return place
    return len(segment.page.events)


def excerpt(page: Page, place: int) -> tuple[str, ...]:
    """The events around a place, one a line."""
    start = max(0, place - SHOWN_EVENTS)
    shown = page.events[start : place + SHOWN_EVENTS // 2]
    return tuple(
        f"{'->' if start + number == place else '  '} {brief(event)}"
        for number, event in enumerate(shown)
    )


def brief(event: Event) -> str:
    """An event on one line."""
    fields = {name: getattr(event, name) for name in event.__slots__}
    at = fields.pop("at")
    return f"{at:8.3f} {type(event).__name__} {fields}"
