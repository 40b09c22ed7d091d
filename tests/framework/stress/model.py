"""The model test's record of a run, and the checks of deliveries: P1 (no silent loss) and P3 (fencing).

A node is one backend object: a node that takes the place of a killed one has another number. Times are those
of the event loop. :mod:`.model_presence` has the checks of presence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.history import Position

# The number in the record of a publisher that is not a node.
EXTERNAL = -1
# The time by which a loaded machine may delay what takes milliseconds.
SLACK_SECONDS = 0.5

Kind = Literal["message", "joined", "left"]


@dataclass(slots=True)
class Subscription:
    """A node's subscription to a room.

    Attributes:
        since: The time from which messages must arrive; ``None`` if it began during an outage.
        until: The time of its end.
    """

    node: int
    room: str
    since: float | None
    until: float | None = None


@dataclass(slots=True)
class Stay:
    """A connection in a room.

    Attributes:
        called: The time at which it began to join.
        entered: The time at which ``enter`` returned.
        ended: The time at which it left, or its node was killed.
        grace: Whether it left with a grace period.
        killed: Whether its node was killed.
    """

    node: int
    room: str
    user: str
    connection: str
    called: float
    entered: float | None = None
    ended: float | None = None
    grace: bool = False
    killed: bool = False


@dataclass(slots=True)
class Sent:
    """A publish.

    Attributes:
        node: The node, or :data:`EXTERNAL`.
        room: The room; empty for a direct message to all connections.
        called: The time of the call.
        returned: The time at which it returned; ``None`` if it raised.
        nodes: The number of nodes that a direct message has reached.
    """

    name: str
    node: int
    room: str
    called: float
    returned: float | None = None
    nodes: int = 0


@dataclass(slots=True)
class Received:
    """A delivery: a message, whose name is that of :class:`Sent`, or a join or leave of a connection."""

    at: float
    node: int
    room: str
    kind: Kind
    name: str
    user: str = ""
    position: Position | None = None


@dataclass(slots=True)
class Read:
    """A list of members; ``outage`` is whether the node knew of one."""

    called: float
    returned: float
    node: int
    room: str
    users: list[str]
    outage: bool


@dataclass(slots=True)
class Window:
    """The duration of a fault; ``node`` is ``None`` for one of Redis or of all nodes, ``end`` while it lasts."""

    start: float
    node: int | None = None
    end: float | None = None

    def overlaps(self, start: float, end: float) -> bool:
        """Return whether the fault lasts during a part of a time."""
        return self.start <= end and (self.end is None or self.end >= start)


@dataclass
class Record:
    """Everything that happened in a run, in the order of time.

    Attributes:
        live: The nodes that have not been killed.
        losses: The times, nodes and rooms of ``on_history_lost``.
        resyncs: Likewise of ``on_resync``.
        faults: The faults of nodes' links, and of Redis.
        data_loss: The time of the first fault by which Redis may have lost messages.
        killed: The nodes that have been killed.
    """

    timing: Timing
    live: set[int] = field(default_factory=set)
    subscriptions: list[Subscription] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)
    sent: dict[str, Sent] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    losses: list[tuple[float, int, str]] = field(default_factory=list)
    resyncs: list[tuple[float, int, str]] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    faults: list[Window] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    data_loss: float = math.inf
    killed: set[int] = field(default_factory=set)

    @property
    def heal_seconds(self) -> float:
        """One expiry and one renewal period: the time after a fault in which everything is correct again."""
        return self.timing.expiry_seconds * 4 / 3

    @property
    def disturbed(self) -> set[int]:
        """The nodes whose link has failed, or that have been killed."""
        return self.killed | {fault.node for fault in self.faults if fault.node is not None}

    @property
    def redis_failed(self) -> bool:
        """Whether there was a fault that affects all nodes."""
        return bool(self.stalls) or any(fault.node is None for fault in self.faults)

    def expiries(self, stay: Stay) -> int:
        """Return how often the node of a connection may have expired while the connection was open."""
        end = math.inf if stay.ended is None else stay.ended
        start = stay.called - self.heal_seconds
        cuts = [fault for fault in self.faults if fault.node == stay.node]
        return sum(fault.overlaps(start, end) for fault in cuts) + sum(
            start <= stall <= end for stall in self.stalls
        )


def delivery_violations(record: Record) -> list[str]:
    """Return the violations of P1 and P3."""
    return [
        *silent_losses(record),
        *false_alarms(record),
        *duplicates(record),
        *wrong_orders(record),
        *wrong_direct_messages(record),
        *unfenced_messages(record),
    ]


def silent_losses(record: Record) -> Iterator[str]:
    """Yield publishes that returned and did not arrive on a node that was not notified of a loss."""
    arrived = {(received.name, received.node) for received in record.received}
    for sent in record.sent.values():
        if sent.returned is None or not sent.room:
            continue
        for each in record.subscriptions:
            is_due = (
                each.room == sent.room
                and each.node in record.live
                and each.since is not None
                and each.since <= sent.called
                and each.until is None
            )
            if is_due and (sent.name, each.node) not in arrived:
                notified = any(
                    at >= sent.called and (node, room) == (each.node, each.room)
                    for at, node, room in record.losses
                )
                if not notified:
                    yield (
                        f"P1: {sent.name!r} of {source(sent)} to room {sent.room!r} returned and did not"
                        f" arrive on node {each.node}, without on_history_lost"
                    )


def source(sent: Sent) -> str:
    """Return the name of a publisher."""
    return "a program" if sent.node == EXTERNAL else f"node {sent.node}"


def false_alarms(record: Record) -> Iterator[str]:
    """Yield losses of which nodes were notified although Redis had lost nothing."""
    for at, node, room in record.losses:
        if at < record.data_loss:
            yield f"P1: false alarm: on_history_lost({room!r}) on node {node} without a loss of data"


def duplicates(record: Record) -> Iterator[str]:
    """Yield messages that a node delivered twice."""
    counts = Counter((each.name, each.node) for each in record.received if each.kind == "message")
    for (name, node), count in counts.items():
        if count > 1:
            yield f"P1: {name!r} was delivered {count} times on node {node}"


def wrong_orders(record: Record) -> Iterator[str]:
    """Yield deliveries that contradict the one order of their room and epoch."""
    named: dict[tuple[str, Position], str] = {}
    last: dict[tuple[int, str, str], int] = {}
    for each in record.received:
        if each.position is None:
            continue
        name = f"{each.kind} {each.name}"
        place = named.setdefault((each.room, each.position), name)
        if place != name:
            yield (
                f"P1: position {each.position} of room {each.room!r} is {place!r}, and {name!r} on node"
                f" {each.node}"
            )
        key = (each.node, each.room, each.position.epoch)
        if each.position.offset <= last.get(key, 0):
            yield f"P1: {name!r} at {each.position} came after offset {last[key]} on node {each.node}"
        last[key] = each.position.offset


def wrong_direct_messages(record: Record) -> Iterator[str]:
    """Yield direct messages that did not reach the nodes that the publish returned, without any fault."""
    if record.faults or record.killed or record.stalls:
        return
    arrived = Counter(each.name for each in record.received if not each.room)
    for sent in record.sent.values():
        if not sent.room and not sent.nodes == arrived[sent.name] == len(record.live):
            yield (
                f"P6: {sent.name!r} returned {sent.nodes} nodes and arrived on {arrived[sent.name]} of"
                f" {len(record.live)}"
            )


def unfenced_messages(record: Record) -> Iterator[str]:
    """Yield messages of a node between the expiry of its connections and its renewal.

    It expires with the ``left`` of a user whose only connection is still open there, and renews with the
    ``joined``.
    """
    counts = Counter((stay.room, stay.user) for stay in record.stays)
    only = {
        (stay.room, stay.user): stay
        for stay in record.stays
        if counts[stay.room, stay.user] == 1 and not stay.killed
    }
    expired: dict[tuple[int, str], dict[int, str]] = {}
    for each in record.received:
        stay = only.get((each.room, each.user))
        nodes = expired.setdefault((each.node, each.room), {})
        if each.kind == "message":
            sent = record.sent.get(each.name)
            if sent is not None and sent.node in nodes:
                yield (
                    f"P3: {each.name!r} of node {sent.node} was delivered on node {each.node} between the"
                    f" left and the joined of {nodes[sent.node]!r}, who is there"
                )
        elif stay is not None and each.kind == "joined":
            nodes.pop(stay.node, None)
        elif stay is not None and (stay.ended is None or stay.ended > each.at):
            nodes[stay.node] = each.user
