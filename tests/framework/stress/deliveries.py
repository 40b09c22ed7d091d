"""P1, the invariants of deliveries: one order without gaps and duplicates, and no silent loss."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict

from .events import (
    Closed,
    Left,
    Opened,
    Page,
    Positioned,
    Received,
    about_itself,
    excerpt,
    excluded,
)
from .record import Publish, Record, Segment, Violation, index_of

# The kind of fault in which Redis goes back to an earlier state.
FAILOVER = "fail over"
# The sender of messages of another service, which shares the prefix but not the database.
OTHER_SERVICE = "another service"
EDGES = ("joined", "left")


def rooms_of_epochs(segments: list[Segment]) -> dict[str, str]:
    """Return the room of each epoch, as far as it is known."""
    rooms: dict[str, str] = {}
    for segment in segments:
        for received in segment.messages.values():
            rooms[segment.epoch] = received.payload["room"]
        if len(segment.page.rooms) == 1:
            rooms[segment.epoch] = segment.page.rooms[0]
    return rooms


def without_lost(record: Record, segments: list[Segment]) -> list[Segment]:
    """Return the segments without the messages that a failover has lost: the replica may use their positions again."""
    failovers = [fault for fault in record.faults if fault.kind == FAILOVER]

    def is_lost(received: Received) -> bool:
        return any(fault.overlaps(received.at, received.at) for fault in failovers)

    return [
        dataclasses.replace(
            segment,
            messages={
                offset: received
                for offset, received in segment.messages.items()
                if not is_lost(received)
            },
        )
        for segment in segments
    ]


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


def gaps(record: Record, segments: list[Segment]) -> list[Violation]:
    """Find messages that a page lacks and another one received."""
    everything: dict[str, dict[int, tuple[Segment, Received]]] = defaultdict(dict)
    for segment in without_lost(record, segments):
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
            and not (received.type in EDGES and segment.lists(offset, received))
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


def foreign_messages(segments: list[Segment]) -> list[Violation]:
    """Find messages of another service."""
    return [
        Violation(
            "I1",
            f"{segment.page.name} received a message of {OTHER_SERVICE}",
            excerpt(segment.page, index_of(segment, offset)),
        )
        for segment in segments
        for offset, received in segment.messages.items()
        if received.payload.get("sender") == OTHER_SERVICE
    ]


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
    """Find messages with two positions, and duplicates without a position on one connection.

    An ephemeral message may arrive on two connections: the client cannot name it to a node that lags behind.
    """
    found = []
    for page in pages:
        firsts_by_key: dict[str, Received] = {}
        for index, event in enumerate(page.events):
            if isinstance(event, Opened):
                firsts_by_key = {key: e for key, e in firsts_by_key.items() if e.epoch}
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
