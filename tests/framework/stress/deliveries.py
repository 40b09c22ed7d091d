"""P1, the invariants of deliveries: one order without gaps and duplicates, and no silent loss."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping

from .record import (
    Closed,
    Left,
    Listed,
    Opened,
    Page,
    Positioned,
    Publish,
    Received,
    Record,
    Segment,
    Violation,
    about_itself,
    excerpt,
    excluded,
    index_of,
)

NUMBERED = ("message", "joined", "left")
EDGES = ("joined", "left")


class Follower:
    """Follows one page: splits its events into segments, and finds the violations in them.

    Like a client, it drops messages that it knows already.

    Attributes:
        segments: The segments.
        found: The violations.
    """

    def __init__(self, page: Page, record: Record) -> None:
        self.page = page
        self.record = record
        self.segments: list[Segment] = []
        self.found: list[Violation] = []
        self.open: dict[str, Segment] = {}
        self.seen: set[tuple[str, int]] = set()
        self.since: Mapping[str, int] = {}
        self.node = 0
        self.positioned: set[str] = set()
        self.listed: dict[str, int] = {}

    def follow(self) -> None:
        """Follow all events, up to the request to leave the rooms."""
        for index, event in enumerate(self.page.events):
            if isinstance(event, Left):
                return
            if isinstance(event, Opened):
                self.since, self.node = event.since, event.node
                self.positioned.clear()
            elif isinstance(event, Listed):
                self.on_list(event)
            elif isinstance(event, Positioned):
                self.on_position(event, index)
            elif isinstance(event, Received) and event.epoch:
                self.on_message(event, index)
            elif isinstance(event, Received) and event.type in NUMBERED:
                self.report(f"received {event.type} without a position", index)

    def report(self, sentence: str, index: int) -> None:
        self.found.append(
            Violation("I1", f"{self.page.name} {sentence}", excerpt(self.page, index))
        )

    def on_list(self, event: Listed) -> None:
        self.listed[event.epoch] = event.offset
        segment = self.open.get(event.epoch)
        if segment is not None:
            segment.listed.append((segment.end, event.offset))

    def begin(self, event: Positioned | Received) -> Segment:
        segment = Segment(self.page, event.epoch, event.offset, event.offset, event.at, event.at)
        segment.listed.append((segment.start, self.listed.get(event.epoch, 0)))
        self.open[event.epoch] = segment
        self.segments.append(segment)
        return segment

    def on_position(self, event: Positioned, index: int) -> None:
        segment = self.open.get(event.epoch)
        name = f"{event.epoch}:{event.offset}"
        joining = event.epoch not in self.positioned
        self.positioned.add(event.epoch)
        if event.recovered:
            if segment is None:
                self.report(f"recovered {name}, an unknown epoch", index)
            elif event.offset < segment.end:
                self.report(f"went back to {name} from {segment.end}", index)
            else:
                segment.end, segment.ended_at = event.offset, event.at
                return
        elif event.recovered is None and self.since and (segment or len(self.page.rooms) == 1):
            self.report(f"got {name} without the field recovered", index)
        elif event.recovered is False and segment is not None:
            self.check_loss(event, segment, joining, index)
        self.begin(event)

    def check_loss(self, event: Positioned, segment: Segment, joining: bool, index: int) -> None:
        """Check that something was lost where a page was told so."""
        record = self.record
        missed = event.offset - segment.end
        unavailable_seconds = event.at - segment.ended_at
        is_kept = unavailable_seconds < record.history_seconds * 0.7
        is_few = missed <= record.history_messages * 0.9
        was_excused = joining and record.was_unavailable(self.node, event.at)
        since = min(segment.ended_at, event.at - record.heal_seconds)
        if len(self.page.rooms) == 1:
            was_lost = record.lost_data(self.page.rooms[0], since, event.at)
        else:
            was_lost = any(record.lost_data(room, since, event.at) for room in self.page.rooms)
        if is_few and is_kept and not was_excused and not was_lost:
            self.report(
                f"did not recover the {missed} messages up to {event.epoch}:{event.offset} after only"
                f" {unavailable_seconds:.1f} s",
                index,
            )

    def on_message(self, event: Received, index: int) -> None:
        segment = self.open.get(event.epoch)
        name = f"{event.epoch}:{event.offset}"
        if segment is None:
            self.report(f"received {name} before a position of that epoch", index)
            segment = self.begin(event)
        elif event.offset > segment.end:
            segment.end, segment.ended_at = event.offset, event.at
        elif (event.epoch, event.offset) not in self.seen and event.offset > segment.start:
            self.report(f"received {name} after {segment.end}: an inversion", index)
        else:
            return  # as a client does
        segment.messages[event.offset] = event
        self.seen.add((event.epoch, event.offset))


def rooms_of_epochs(segments: list[Segment]) -> dict[str, str]:
    """Return the room of each epoch, as far as it is known."""
    rooms: dict[str, str] = {}
    for segment in segments:
        for received in segment.messages.values():
            rooms[segment.epoch] = received.payload["room"]
        if len(segment.page.rooms) == 1:
            rooms[segment.epoch] = segment.page.rooms[0]
    return rooms


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
            and not (received.type in EDGES and segment.lists(offset))
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
    rooms = rooms_of_epochs(segments)
    lives: dict[str, list[float]] = {}
    for segment in segments:
        life = lives.setdefault(segment.epoch, [segment.started_at, segment.ended_at])
        life[:] = min(life[0], segment.started_at), max(life[1], segment.ended_at)
    found = []
    for room in sorted(set(rooms.values())):
        epochs = sorted((e for e, r in rooms.items() if r == room), key=lambda epoch: lives[epoch])
        for old, new in itertools.pairwise(epochs):
            ended_at, started_at = lives[old][1], lives[new][0]
            emptied = record.lost_data(room, lives[old][0], started_at)
            if not emptied and started_at - ended_at < record.history_seconds * 0.5:
                sentence = (
                    f"{room} began the epoch {new} at {started_at:.2f} although Redis kept its data"
                    f" and {old} was in use from {lives[old][0]:.2f} to {ended_at:.2f}"
                )
                found.append(Violation("I1", sentence))
    return found


def is_due(publish: Publish, page: Page) -> bool:
    """Return whether a publish that succeeded concerns a page."""
    payload = {"sender": publish.sender, "user": publish.user, "exclude": publish.exclude}
    is_numbered = publish.outcome == "accepted" and not publish.ephemeral
    return is_numbered and not excluded(page, Received(0.0, "message", payload))


def lost_messages(record: Record, segments: list[Segment]) -> list[Violation]:
    """Find requests without a reply, and messages that did not arrive although their publish succeeded.

    A message must arrive at each page that had received its position before the publish, and that received in the
    same epoch a message published after it, or was connected at a checkpoint without having been told of a loss.
    """
    started_at = {publish.key: publish.started_at for publish in record.publishes}
    last = last_segments(record, segments)
    by_room: dict[str, list[tuple[Segment, float, set[str]]]] = defaultdict(list)
    rooms = rooms_of_epochs(segments)
    for segment in segments:
        keys = {g.payload["key"] for g in segment.messages.values() if g.type == "message"}
        latest = max((started_at.get(key, 0.0) for key in keys), default=0.0)
        latest = max(latest, last.get(id(segment), 0.0))
        if segment.epoch in rooms:
            by_room[rooms[segment.epoch]].append((segment, latest, keys))
    found = []
    for publish in record.publishes:
        if publish.outcome == "unanswered":
            found.append(Violation("I3", f"no reply to {publish}"))
        for segment, latest, keys in by_room[publish.room]:
            had_to = segment.started_at <= publish.started_at and publish.ended_at <= latest
            if had_to and publish.key not in keys and is_due(publish, segment.page):
                sentence = f"{segment.page.name} never received an accepted message: {publish}"
                shown = (f"it received {segment.epoch} from {segment.start} to {segment.end}",)
                found.append(Violation("I3", sentence, shown))
    return found


def last_segments(record: Record, segments: list[Segment]) -> dict[int, float]:
    """Return the last checkpoint of each segment (by id) that a page follows then, connected and uninformed of a loss."""
    rooms = rooms_of_epochs(segments)
    by_page: dict[tuple[str, str], list[Segment]] = defaultdict(list)
    for segment in segments:
        by_page[segment.page.name, rooms.get(segment.epoch, segment.epoch)].append(segment)
    last: dict[int, float] = {}
    for followed in by_page.values():
        page = followed[0].page
        for at in record.checkpoints:
            current = [segment for segment in followed if segment.started_at <= at]
            if current and is_connected(page, at):
                last[id(current[-1])] = at
    return last


def is_connected(page: Page, at: float) -> bool:
    """Return whether a page had a connection in its rooms at a time."""
    state = False
    for event in page.events:
        if event.at > at:
            break
        if isinstance(event, Positioned):
            state = True
        elif isinstance(event, (Opened, Left, Closed)):
            state = False
    return state
