"""What one page received: segments without a gap, and the violations in its own events."""

from __future__ import annotations

from collections.abc import Mapping

from .events import Left, Listed, Opened, Page, Positioned, Received, excerpt
from .record import Record, Segment, Violation

NUMBERED = ("message", "joined", "left")


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
        self.epochs_of_lists: dict[str, str] = {}
        self.nodes: dict[str, int] = {}

    def follow(self) -> None:
        """Follow all events, up to the request to leave the rooms."""
        for index, event in enumerate(self.page.events):
            if isinstance(event, Left):
                return
            if isinstance(event, Opened):
                self.since, self.node = event.since, event.node
                self.positioned.clear()
                self.epochs_of_lists.clear()
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
        self.epochs_of_lists[event.room] = event.epoch
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
        self.check_position(event, index)
        self.nodes[event.epoch] = self.node
        # NOTE: on_connect read the list after the room had lost its data, and the position of its new epoch follows.
        self.open[event.epoch].relisted |= {
            room
            for room, epoch in self.epochs_of_lists.items()
            if epoch != event.epoch and epoch not in self.positioned
        }

    def check_position(self, event: Positioned, index: int) -> None:
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
        # A node that is cut off knows old positions only.
        last_node = self.nodes.get(event.epoch, self.node)
        is_kept = is_kept and not record.was_unavailable(last_node, segment.ended_at)
        missed_bytes = record.published_bytes(self.page.rooms, segment.ended_at - 1.0, event.at)
        is_kept = is_kept and missed_bytes < record.recovery_bytes * 0.8
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
        self.nodes[event.epoch] = self.node
        self.seen.add((event.epoch, event.offset))
