"""Invariants of the records of a cluster's clients; pure functions without sockets or waiting.

Times are seconds on the clock of the process that runs all clients. A message is ``{"type": "message",
"payload": {"key", "room", "sender", "user", "exclude"}}``: the key is unique, ``sender`` is the page that sent it
and ``exclude`` is ``"self"``, ``"user"`` or ``""``. Presence messages are ``joined`` and ``left`` with ``room`` and
``user``. An epoch belongs to one life of one room.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# The number of events in an excerpt.
EXCERPT_EVENTS = 12
# The maximum delay between a server and a client.
MARGIN_SECONDS = 1.0
# The maximum time that a node needs to reconnect to Redis.
RECOVERY_SECONDS = 3.0
NUMBERED = ("message", "joined", "left")
EXPECTED_CODES = {1000, 1001, 1005, 1006, 1012}


@dataclass(frozen=True, slots=True)
class Opened:
    """A page has opened a connection.

    Attributes:
        at: The time.
        node: The number of the node.
        since: The offset that the page knows of each epoch.
    """

    at: float
    node: int
    since: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Positioned:
    """A page received a position; ``recovered`` is ``None`` if the server sent no such field."""

    at: float
    epoch: str
    offset: int
    recovered: bool | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A page received a message; ``epoch`` is empty for one without a position."""

    at: float
    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    epoch: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """A page has asked to leave its rooms: from now on nothing is guaranteed to it, nor about its user."""

    at: float


@dataclass(frozen=True, slots=True)
class Closed:
    """A page's connection has ended_at."""

    at: float
    code: int


Event = Opened | Positioned | Received | Left | Closed


class Visit(NamedTuple):
    """One connection of a page.

    Attributes:
        started_at: Its start.
        end: Its end; infinity while it is open.
        node: The number of the node.
        left: Whether it ended_at by leaving the rooms.
    """

    started_at: float
    end: float
    node: int
    left: bool


@dataclass
class Page:
    """The events of a page, from its load to its end, over all of its connections.

    Attributes:
        name: A unique name.
        user: Its user.
        rooms: The rooms that it joins.
        events: In the order of their arrival.
    """

    name: str
    user: str
    rooms: tuple[str, ...]
    events: list[Event] = field(default_factory=list)

    def visits(self) -> Iterator[Visit]:
        """Return its connections in order."""
        opened: Opened | None = None
        for event in self.events:
            if isinstance(event, Opened):
                opened = event
            elif isinstance(event, (Left, Closed)) and opened is not None:
                yield Visit(opened.at, event.at, opened.node, isinstance(event, Left))
                opened = None
        if opened is not None:
            yield Visit(opened.at, float("inf"), opened.node, False)


@dataclass(frozen=True, slots=True)
class Publish:
    """One attempt to publish to a room.

    Attributes:
        key: The key in the message.
        room: The room.
        sender: The page, or the name of a publisher outside the cluster.
        user: The page's user, or empty.
        exclude: ``"self"``, ``"user"`` or ``""``.
        ephemeral: Whether it may be lost.
        started_at: The start.
        ended_at: The time of the reply.
        outcome: ``"accepted"``, ``"refused"``, ``"cut off"`` (the connection ended first) or ``"unanswered"``.
    """

    key: str
    room: str
    sender: str
    user: str
    exclude: str
    ephemeral: bool
    started_at: float
    ended_at: float
    outcome: str


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault that was injected; ``node`` is ``None`` for a fault of Redis."""

    kind: str
    node: int | None
    started_at: float
    ended_at: float


@dataclass(frozen=True)
class Violation:
    """A violation of an invariant: a description, and the part of the record that shows it."""

    invariant: str
    sentence: str
    record: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.invariant}: {self.sentence}", *self.record])


@dataclass
class Segment:
    """An uninterrupted part of an epoch as one page received it.

    Attributes:
        page: The page.
        epoch: The epoch.
        start: The offset after which it must have everything.
        end: The last offset that it knows.
        started_at: The time at which it received the start.
        ended_at: The time of the last event.
        messages: The messages by offset.
    """

    page: Page
    epoch: str
    start: int
    end: int
    started_at: float
    ended_at: float
    messages: dict[int, Received] = field(default_factory=dict)


@dataclass
class Record:
    """The record of a run.

    Attributes:
        pages: All pages.
        publishes: All attempts to publish.
        faults: All injected faults.
        history_messages: The number of messages that a room keeps.
        history_seconds: The time for which it keeps them.
        grace_seconds: The grace period of presence.
        expiry_seconds: The time after which a node expires.
    """

    pages: list[Page]
    publishes: list[Publish] = field(default_factory=list)
    faults: list[InjectedFault] = field(default_factory=list)
    history_messages: int = 100
    history_seconds: float = 10.0
    grace_seconds: float = 0.5
    expiry_seconds: float = 2.0


def check(record: Record) -> list[Violation]:
    """Return all violations."""
    segments: list[Segment] = []
    found: list[Violation] = []
    for page in record.pages:
        seen, wrong = follow(page, record)
        segments += seen
        found += wrong
    found += differences(segments)
    found += gaps(segments)
    found += wrong_exclusions(segments)
    found += duplicates(record.pages)
    found += unexpected_epochs(record, segments)
    found += repeated_edges(segments)
    found += false_leaves(record, segments)
    found += lost_messages(record, segments)
    found += wrong_ends(record.pages)
    return found


def follow(page: Page, record: Record) -> tuple[list[Segment], list[Violation]]:
    """Return the segments that one page received, and the violations in its own events.

    Like a client, it drops messages that it knows already.
    """
    open_segments: dict[str, Segment] = {}
    segments: list[Segment] = []
    found: list[Violation] = []
    seen: set[tuple[str, int]] = set()
    since: Mapping[str, int] = {}
    node = 0
    positioned: set[str] = set()

    def report(invariant: str, sentence: str, index: int) -> None:
        found.append(Violation(invariant, f"{page.name} {sentence}", excerpt(page, index)))

    for index, event in enumerate(page.events):
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
                    report("I1", f"recovered {name}, an unknown epoch", index)
                elif event.offset < segment.end:
                    report("I1", f"went back to {name} from {segment.end}", index)
                else:
                    segment.end, segment.ended_at = event.offset, event.at
                    continue
            elif event.recovered is None and since and (segment or len(page.rooms) == 1):
                report("I1", f"got {name} without the field recovered", index)
            elif event.recovered is False and segment is not None:
                missed = event.offset - segment.end
                unavailable_seconds = event.at - segment.ended_at
                is_kept = unavailable_seconds < record.history_seconds * 0.7
                is_few = missed <= record.history_messages * 0.9
                if is_few and is_kept and not (joining and was_unavailable(record, node, event.at)):
                    report(
                        "I1",
                        f"did not recover the {missed} messages up to {name} after only"
                        f" {unavailable_seconds:.1f} s",
                        index,
                    )
            segment = Segment(page, event.epoch, event.offset, event.offset, event.at, event.at)
            open_segments[event.epoch] = segment
            segments.append(segment)
        elif isinstance(event, Received) and event.epoch:
            segment = open_segments.get(event.epoch)
            name = f"{event.epoch}:{event.offset}"
            if segment is None:
                report("I1", f"received {name} before a position of that epoch", index)
                segment = Segment(page, event.epoch, event.offset, event.offset, event.at, event.at)
                open_segments[event.epoch] = segment
                segments.append(segment)
            elif event.offset > segment.end:
                segment.end, segment.ended_at = event.offset, event.at
            elif (event.epoch, event.offset) not in seen and event.offset > segment.start:
                report("I1", f"received {name} after {segment.end}: an inversion", index)
            else:
                continue  # as a client does
            segment.messages[event.offset] = event
            seen.add((event.epoch, event.offset))
        elif isinstance(event, Received) and event.type in NUMBERED:
            report("I1", f"received {event.type} without a position", index)
    return segments, found


def was_unavailable(record: Record, node: int, at: float) -> bool:
    """Return whether Redis was unavailable for a node at a time, or had recovered only just before."""
    return any(
        fault.node in (None, node) and fault.started_at <= at <= fault.ended_at + RECOVERY_SECONDS
        for fault in record.faults
    )


def differences(segments: list[Segment]) -> list[Violation]:
    """Find positions with two different messages, and epochs of two rooms."""
    found = []
    firsts: dict[tuple[str, int], tuple[Segment, Received]] = {}
    rooms: dict[str, tuple[Segment, Received]] = {}
    for segment in segments:
        for offset, received in segment.messages.items():
            name = f"{segment.epoch}:{offset}"
            other, same = firsts.setdefault((segment.epoch, offset), (segment, received))
            if (same.type, same.payload) != (received.type, received.payload):
                sentence = (
                    f"{name} is one message for {other.page.name}, another for {segment.page.name}"
                )
                found.append(Violation("I1", sentence, (str(same), str(received))))
            other, same = rooms.setdefault(segment.epoch, (segment, received))
            if same.payload.get("room") != received.payload.get("room"):
                sentence = f"the epoch {segment.epoch} belongs to two rooms"
                found.append(Violation("I1", sentence, (str(same), str(received))))
    return found


def gaps(segments: list[Segment]) -> list[Violation]:
    """Find messages that a page lacks and another one received."""
    everything: dict[str, dict[int, tuple[Segment, Received]]] = defaultdict(dict)
    for segment in segments:
        for offset, received in segment.messages.items():
            everything[segment.epoch].setdefault(offset, (segment, received))
    found = []
    for segment in segments:
        missing = [
            offset
            for offset, (_, received) in everything[segment.epoch].items()
            if segment.start < offset <= segment.end
            and offset not in segment.messages
            and not excluded(segment.page, received)
            and not about_itself(segment.page, received)
        ]
        if missing:
            witness, received = everything[segment.epoch][min(missing)]
            sentence = (
                f"{segment.page.name} has {segment.epoch} from {segment.start} to {segment.end}"
                f" but not {sorted(missing)} although {witness.page.name} received {received}"
            )
            index = index_of(segment, min(missing))
            found.append(Violation("I1", sentence, excerpt(segment.page, index)))
    return found


def wrong_exclusions(segments: list[Segment]) -> list[Violation]:
    """Find messages that a page received although it was excluded."""
    return [
        Violation(
            "I1",
            f"{segment.page.name} received a message from which it is excluded",
            excerpt(segment.page, index_of(segment, offset)),
        )
        for segment in segments
        for offset, received in segment.messages.items()
        if excluded(segment.page, received)
    ]


def duplicates(pages: list[Page]) -> list[Violation]:
    """Find messages with two positions, and duplicates without a position."""
    found = []
    for page in pages:
        firsts_by_key: dict[str, Received] = {}
        for index, event in enumerate(page.events):
            if (
                not isinstance(event, Received)
                or "key" not in event.payload
                or event.type == "published"
            ):
                continue
            first = firsts_by_key.setdefault(event.payload["key"], event)
            again = first is not event and (
                not event.epoch or (first.epoch, first.offset) != (event.epoch, event.offset)
            )
            if again:
                sentence = f"{page.name} received {event.payload['key']} twice"
                found.append(Violation("I1", sentence, (str(first), *excerpt(page, index))))
    return found


def unexpected_epochs(record: Record, segments: list[Segment]) -> list[Violation]:
    """Find new epochs of rooms in use although Redis had not lost its data."""
    rooms: dict[str, str] = {}
    lives: dict[str, list[float]] = {}
    for segment in segments:
        for received in segment.messages.values():
            rooms[segment.epoch] = received.payload["room"]
        if len(segment.page.rooms) == 1:
            rooms[segment.epoch] = segment.page.rooms[0]
        life = lives.setdefault(segment.epoch, [segment.started_at, segment.ended_at])
        life[:] = min(life[0], segment.started_at), max(life[1], segment.ended_at)
    found = []
    for room in sorted(set(rooms.values())):
        epochs = sorted((e for e, r in rooms.items() if r == room), key=lambda epoch: lives[epoch])
        for old, new in itertools.pairwise(epochs):
            ended_at, started_at = lives[old][1], lives[new][0]
            emptied = any(
                fault.kind == "restart redis"
                and fault.started_at <= started_at
                and fault.ended_at >= lives[old][0]
                for fault in record.faults
            )
            if not emptied and started_at - ended_at < record.history_seconds * 0.5:
                sentence = (
                    f"{room} began the epoch {new} at {started_at:.2f} although Redis kept its data"
                    f" and {old} was in use from {lives[old][0]:.2f} to {ended_at:.2f}"
                )
                found.append(Violation("I1", sentence))
    return found


def repeated_edges(segments: list[Segment]) -> list[Violation]:
    """Find users that joined twice or left twice from the point of view of one page."""
    found = []
    for segment in segments:
        last: dict[str, tuple[int, str]] = {}
        for offset, received in sorted(segment.messages.items()):
            if received.type not in ("joined", "left") or about_itself(segment.page, received):
                continue
            user = received.payload["user"]
            before, kind = last.get(user, (0, ""))
            if kind == received.type:
                sentence = (
                    f"{segment.page.name} received {kind} of {user} in {received.payload['room']} twice,"
                    f" at {segment.epoch}:{before} and {offset}"
                )
                index = index_of(segment, offset)
                found.append(Violation("I2", sentence, excerpt(segment.page, index)))
            last[user] = offset, received.type
    return found


def false_leaves(record: Record, segments: list[Segment]) -> list[Violation]:
    """Find users that left more often than possible.

    A user may leave when none of its pages was in the room for more than half of the grace period (a server measures it
    longer than a client), when it left its rooms, and when a node was frozen for long. The users of a node that is cut
    off are unknown, as are all users before the nodes have recovered from a data loss of Redis: then another connection of
    the same user may be taken for the last one.
    """
    reported: dict[tuple[str, str], dict[tuple[str, int], Received]] = defaultdict(dict)
    for segment in segments:
        for offset, received in segment.messages.items():
            if received.type == "left":
                about = received.payload["room"], received.payload["user"]
                reported[about].setdefault((segment.epoch, offset), received)
    visits = visits_by_user(record)
    found = []
    for (room, user), leaves in sorted(reported.items()):
        possible, reasons = possible_leaves(record, visits[room, user])
        if len(leaves) > possible:
            sentence = (
                f"{user} left {room} {len(leaves)} times, but can have left only {possible} times"
            )
            lines = [f"{name}: {received}" for name, received in sorted(leaves.items())]
            found.append(Violation("I2", sentence, (*lines, *reasons)))
    return found


def possible_leaves(record: Record, visits: list[Visit]) -> tuple[int, list[str]]:
    """Return how often a user can have left, and the reasons."""
    reasons = []
    until, grace_seconds = float("-inf"), 0.0
    for visit in sorted(visits):
        if float("-inf") < until < visit.started_at - grace_seconds:
            reasons.append(f"absent from {until:.2f} to {visit.started_at:.2f}")
        reasons.append(f"    on node {visit.node} from {visit.started_at:.2f} to {visit.end:.2f}")
        reasons += [
            f"{fault.kind} of node {visit.node} from {fault.started_at:.2f} to {fault.ended_at:.2f}"
            for fault in record.faults
            if fault.node == visit.node
            and fault.ended_at - fault.started_at > record.expiry_seconds / 2
            and fault.started_at < visit.end
            and fault.ended_at > visit.started_at
        ]
        reasons += [
            f"left at {visit.end:.2f} while node {other.node} was unknown"
            for other in visits
            if other.started_at <= visit.end < other.end
            and is_unknown(record, other.node, visit.end)
        ][:1]
        if visit.end > until:
            until, grace_seconds = visit.end, 0.0 if visit.left else record.grace_seconds / 2
    if visits and until < float("inf"):
        reasons.append(f"absent from {until:.2f} on")
    return sum(not reason.startswith(" ") for reason in reasons), reasons


def is_unknown(record: Record, node: int, at: float) -> bool:
    """Return whether the users of a node may have been unknown at a time or within the grace period after it."""
    return any(
        fault.started_at <= at + record.grace_seconds
        and at <= fault.ended_at + RECOVERY_SECONDS
        and (
            fault.kind == "restart redis"
            or (
                fault.node == node and fault.ended_at - fault.started_at > record.expiry_seconds / 2
            )
        )
        for fault in record.faults
    )


def lost_messages(record: Record, segments: list[Segment]) -> list[Violation]:
    """Find accepted messages that did not arrive, and requests without a reply.

    A message must arrive at each page that had received its position before the publish, and that received in the same
    epoch a message published after it.
    """
    started_at = {publish.key: publish.started_at for publish in record.publishes}
    by_room: dict[str, list[tuple[Segment, float, set[str]]]] = defaultdict(list)
    for segment in segments:
        keys = {g.payload["key"] for g in segment.messages.values() if g.type == "message"}
        rooms = {g.payload["room"] for g in segment.messages.values()}
        latest = max((started_at.get(key, 0.0) for key in keys), default=0.0)
        for room in rooms:
            by_room[room].append((segment, latest, keys))
    found = []
    for publish in record.publishes:
        if publish.outcome == "unanswered":
            found.append(Violation("I3", f"no reply to {publish}"))
        if publish.outcome != "accepted" or publish.ephemeral:
            continue
        payload = {"sender": publish.sender, "user": publish.user, "exclude": publish.exclude}
        for segment, latest, keys in by_room[publish.room]:
            had_to = segment.started_at <= publish.started_at and publish.ended_at <= latest
            left_out = excluded(segment.page, Received(0.0, "message", payload))
            if had_to and not left_out and publish.key not in keys:
                sentence = f"{segment.page.name} never received an accepted message: {publish}"
                shown = (f"it received {segment.epoch} from {segment.start} to {segment.end}",)
                found.append(Violation("I3", sentence, shown))
    return found


def wrong_ends(pages: list[Page]) -> list[Violation]:
    """Find unexpected close codes and unexpected error replies."""
    found = []
    for page in pages:
        for index, event in enumerate(page.events):
            if isinstance(event, Closed) and event.code not in EXPECTED_CODES:
                sentence = f"a connection of {page.name} was closed with {event.code}"
                found.append(Violation("I0", sentence, excerpt(page, index)))
            error = (
                event.payload
                if isinstance(event, Received) and event.type == "serverError"
                else None
            )
            if error is not None and error.get("code") != "unavailable":
                sentence = f"{page.name} received the error {error}"
                found.append(Violation("I0", sentence, excerpt(page, index)))
    return found


def wrong_members(
    present: Mapping[str, set[str]], reported: Mapping[int, Mapping[str, list[str]]]
) -> list[Violation]:
    """Find nodes with wrong lists of members.

    Args:
        present: The present users of each non-empty room.
        reported: For each node, the members of all rooms that it returned.
    """
    found = []
    for node, rooms in sorted(reported.items()):
        lines = []
        for room in sorted({*present, *rooms}):
            expected, answered = present.get(room, set()), rooms.get(room, [])
            missing = sorted(expected - set(answered))
            ghosts = sorted(set(answered) - expected)
            twice = sorted(user for user, count in Counter(answered).items() if count > 1)
            if missing or ghosts or twice:
                lines.append(f"{room}: missing {missing}, ghosts {ghosts}, twice {twice}")
        if lines:
            sentence = f"node {node} has wrong members of {len(lines)} rooms"
            found.append(Violation("I2", sentence, tuple(lines)))
    return found


def wrong_last_edges(
    pages: Iterable[Page], record: Record, present: Mapping[str, set[str]]
) -> list[Violation]:
    """Find pages that, at the end, have not received the last join or leave of a user.

    Args:
        pages: The open pages.
        record: The record.
        present: The present users of each room.
    """
    visits = visits_by_user(record)
    found = []
    for page in pages:
        newest: dict[str, Segment] = {}
        for segment in follow(page, record)[0]:
            for received in segment.messages.values():
                newest[received.payload["room"]] = segment
        for room, segment in newest.items():
            last: dict[str, tuple[int, str]] = {}
            for offset, received in sorted(segment.messages.items()):
                if received.type in ("joined", "left") and not about_itself(page, received):
                    last[received.payload["user"]] = offset, received.type
            for user in sorted(user for name, user in visits if name == room):
                is_present = user in present.get(room, ())
                offset, kind = last.get(user, (segment.end, ""))
                if not kind:
                    kind = assumed_edge(record, segment, visits[room, user])
                if user != page.user and kind and (kind == "joined") != is_present:
                    truth = "is present" if is_present else "is absent"
                    sentence = f"{page.name}: {user} {kind} {room}, but {truth}"
                    line = str(visits[room, user])
                    shown = (line, *excerpt(page, index_of(segment, offset)))
                    found.append(Violation("I2", sentence, shown))
    return found


def assumed_edge(record: Record, segment: Segment, visits: list[Visit]) -> str:
    """Return the state of a user that a page must assume without a message about it; empty if unknown.

    A user that came after the page is ``left``, one that was present before it is ``joined``.
    """
    if min(visit.started_at for visit in visits) > segment.started_at + MARGIN_SECONDS:
        return "left"
    for visit in visits:
        registered = (
            visit.started_at < segment.started_at - MARGIN_SECONDS
            and visit.end > segment.started_at + record.expiry_seconds + MARGIN_SECONDS
        )
        cut_off = any(
            t.node == visit.node and t.ended_at > segment.started_at for t in record.faults
        )
        if registered and not cut_off:
            return "joined"
    return ""


def visits_by_user(record: Record) -> dict[tuple[str, str], list[Visit]]:
    """Return the visits to rooms, by room and user."""
    visits: dict[tuple[str, str], list[Visit]] = defaultdict(list)
    for page in record.pages:
        for visit in page.visits():
            for room in page.rooms:
                visits[room, page.user].append(visit)
    return visits


def excluded(page: Page, received: Received) -> bool:
    """Return whether a page is excluded from a message."""
    exclude = received.payload.get("exclude", "")
    if exclude == "user":
        return bool(received.payload["user"] == page.user)
    return bool(exclude == "self" and received.payload["sender"] == page.name)


def about_itself(page: Page, received: Received) -> bool:
    """Return whether it is a presence message about the page's own user, which a page may receive or not."""
    return received.type in ("joined", "left") and received.payload["user"] == page.user


def index_of(segment: Segment, offset: int) -> int:
    """Return the index of the event by which a page learned of an offset, or of one after it."""
    for index, event in enumerate(segment.page.events):
        if not isinstance(event, (Received, Positioned)) or event.epoch != segment.epoch:
            continue
        if event.offset >= offset and event.at >= segment.started_at:
            return index
    return len(segment.page.events)


def excerpt(page: Page, index: int) -> tuple[str, ...]:
    """Return the events around an index, one per line."""
    start = max(0, index - EXCERPT_EVENTS)
    shown = page.events[start : index + EXCERPT_EVENTS // 2]
    return tuple(
        f"{'->' if start + number == index else '  '} {brief(event)}"
        for number, event in enumerate(shown)
    )


def brief(event: Event) -> str:
    """Format an event as one line."""
    fields = {name: getattr(event, name) for name in event.__slots__}
    at = fields.pop("at")
    return f"{at:8.3f} {type(event).__name__} {fields}"
