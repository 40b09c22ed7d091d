"""The record of a run with the events of each page, from which the invariants are checked.

Times are seconds on the clock of the process that runs all clients. A message is ``{"type": "message",
"payload": {"key", "room", "sender", "user", "exclude"}}``: the key is unique, ``sender`` is the page that sent it
and ``exclude`` is ``"self"``, ``"user"`` or ``""``. Presence messages are ``joined`` and ``left`` with ``room`` and
``user``. An epoch belongs to one life of one room.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from .events import Page, Positioned, Received, Visit

# The maximum delay between a server and a client.
MARGIN_SECONDS = 1.0
# The maximum time that a node needs to reconnect to Redis.
RECOVERY_SECONDS = 3.0


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
        filler_bytes: The size of what makes it large.
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
    filler_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """A call that closes the connections of a user, or those in a room.

    Attributes:
        user: The user; empty for a room.
        room: The room; empty for a user.
        started_at: The start of the call.
        ended_at: The time at which it returned or raised.
        outcome: ``"done"``, ``"unconfirmed"`` (a node has not confirmed it) or ``"refused"``.
    """

    user: str
    room: str
    started_at: float
    ended_at: float
    outcome: str


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault that was injected.

    Attributes:
        kind: Its name.
        node: The number of the node; ``None`` for a fault of Redis.
        started_at: The start.
        ended_at: The end.
        loses_data: Whether Redis may lose messages or presence.
        room: The only room whose data is lost; empty for all.
    """

    kind: str
    node: int | None
    started_at: float
    ended_at: float
    loses_data: bool = False
    room: str = ""

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.ended_at - self.started_at

    def overlaps(self, start: float, end: float) -> bool:
        """Return whether it lasts during a part of a time."""
        return self.started_at <= end and self.ended_at >= start


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
        listed: The ranges of offsets without joins and leaves, because a list of members contains them.
        relisted: The rooms without joins and leaves, because a list of the room's next epoch contains them.
    """

    page: Page
    epoch: str
    start: int
    end: int
    started_at: float
    ended_at: float
    messages: dict[int, Received] = field(default_factory=dict)
    listed: list[tuple[int, int]] = field(default_factory=list)
    relisted: set[str] = field(default_factory=set)

    def lists(self, offset: int, edge: Received) -> bool:
        """Return whether a list of members contains a join or leave at an offset."""
        is_relisted = edge.payload["room"] in self.relisted
        return is_relisted or any(start < offset <= end for start, end in self.listed)


@dataclass
class Record:
    """The record of a run.

    Attributes:
        pages: All pages.
        publishes: All attempts to publish.
        faults: All injected faults.
        commands: All calls that close connections.
        checkpoints: The times at which everything that was published before must have arrived.
        history_messages: The number of messages that a room keeps.
        history_seconds: The time for which it keeps them.
        recovery_bytes: The maximum size of what a reconnecting client gets: half of its outbox.
        grace_seconds: The grace period of presence.
        expiry_seconds: The time after which a node expires.
    """

    pages: list[Page]
    publishes: list[Publish] = field(default_factory=list)
    faults: list[InjectedFault] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    checkpoints: list[float] = field(default_factory=list)
    history_messages: int = 100
    history_seconds: float = 10.0
    recovery_bytes: int = 512 * 1024
    grace_seconds: float = 0.5
    expiry_seconds: float = 2.0

    @property
    def heal_seconds(self) -> float:
        """The time after a fault in which everything must be correct again."""
        return self.expiry_seconds * 4 / 3 + self.grace_seconds + RECOVERY_SECONDS + MARGIN_SECONDS

    def lost_data(self, room: str, start: float, end: float) -> bool:
        """Return whether Redis may have lost data of a room during a time, or just before."""
        return any(
            fault.loses_data
            and fault.room in ("", room)
            and fault.overlaps(start - MARGIN_SECONDS, end)
            for fault in self.faults
        )

    def published_bytes(self, rooms: Collection[str], start: float, end: float) -> int:
        """Return the size of the large messages that were published to some rooms during a time."""
        return sum(
            publish.filler_bytes
            for publish in self.publishes
            if publish.room in rooms and publish.started_at <= end and publish.ended_at >= start
        )

    def was_unavailable(self, node: int, at: float) -> bool:
        """Return whether Redis was unavailable for a node at a time, or had recovered only just before."""
        return any(
            fault.node in (None, node) and fault.overlaps(at - RECOVERY_SECONDS, at)
            for fault in self.faults
        )

    def recovered_at(self, node: int, at: float) -> float:
        """Return the end of the faults that affect a node at a time, or follow each other from then on."""
        for fault in sorted(self.faults, key=lambda fault: fault.started_at):
            near = (at - RECOVERY_SECONDS, at + RECOVERY_SECONDS)
            if fault.node in (None, node) and fault.overlaps(*near):
                at = max(at, fault.ended_at)
        return at

    def may_have_expired(self, node: int, at: float) -> bool:
        """Return whether the faults before a time, one soon after the other, were longer than a lease."""
        since = at
        for fault in sorted(self.faults, key=lambda fault: fault.ended_at, reverse=True):
            if fault.node in (None, node) and fault.overlaps(since - RECOVERY_SECONDS, since):
                since = min(since, fault.started_at)
        return at - since > self.expiry_seconds

    def visits(self) -> dict[tuple[str, str], list[Visit]]:
        """Return the visits to rooms, by room and user."""
        visits: dict[tuple[str, str], list[Visit]] = defaultdict(list)
        for page in self.pages:
            for visit in page.visits():
                for room in page.rooms:
                    visits[room, page.user].append(visit)
        return visits


def index_of(segment: Segment, offset: int) -> int:
    """Return the index of the event by which a page learned of an offset, or of one after it."""
    for index, event in enumerate(segment.page.events):
        if not isinstance(event, (Received, Positioned)) or event.epoch != segment.epoch:
            continue
        if event.offset >= offset and event.at >= segment.started_at:
            return index
    return len(segment.page.events)
