"""Schedules of the model test: the steps of clients, and faults, as data that prints as code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import strategies as st

USERS = ("ann", "bob", "cid")
# Each node is always subscribed to the room "a", which has a history; "b" has none.
ROOMS = ("a", "b")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a schedule.

    Attributes:
        is_fault: Whether it is a fault, or the end of one.
        hits_redis: Whether it affects all nodes.
        loses_data: Whether Redis may lose messages, so that ``on_history_lost`` is no false alarm.
    """

    is_fault: ClassVar[bool] = False
    hits_redis: ClassVar[bool] = False
    loses_data: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Fault(Step):
    """A fault of one node."""

    is_fault: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RedisFault(Fault):
    """A fault of Redis."""

    hits_redis: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DataLoss(RedisFault):
    """A loss of data in Redis."""

    loses_data: ClassVar[bool] = True


# Steps of clients. A step of a node that has been killed has no effect.


@dataclass(frozen=True, slots=True)
class Join(Step):
    """A user opens a connection to a node and joins a room."""

    user: str
    node: int
    room: str = "a"


@dataclass(frozen=True, slots=True)
class Leave(Step):
    """The oldest connection of a user in a room leaves it; no effect without one."""

    user: str
    room: str = "a"
    grace: bool = False


@dataclass(frozen=True, slots=True)
class Reload(Step):
    """A user's oldest connection leaves with a grace period, and a new one joins at once."""

    user: str
    node: int
    room: str = "a"


@dataclass(frozen=True, slots=True)
class Publish(Step):
    """A node publishes a message."""

    node: int
    room: str = "a"


@dataclass(frozen=True, slots=True)
class PublishExternally(Step):
    """A program that is not a node publishes a message."""

    room: str = "a"


@dataclass(frozen=True, slots=True)
class PublishDirect(Step):
    """A node publishes a message to all connections."""

    node: int


@dataclass(frozen=True, slots=True)
class ReadMembers(Step):
    """A node reads the members of a room."""

    node: int
    room: str = "a"


@dataclass(frozen=True, slots=True)
class Restrict(Step):
    """A node bans a user, or ends the ban."""

    user: str
    node: int
    is_banned: bool = True


@dataclass(frozen=True, slots=True)
class Pause(Step):
    """Nothing happens for a time."""

    seconds: float


# Faults of a node.


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """The link of a node fails: its connections are reset, or only its data is held back (``silent``)."""

    node: int
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Restore(Fault):
    """The link of a node works again, beginning with the data held back; at the end all links do."""

    node: int


@dataclass(frozen=True, slots=True)
class Kill(Fault):
    """A node dies with its connections, without a message to Redis."""

    node: int


@dataclass(frozen=True, slots=True)
class Start(Fault):
    """A new node takes the place of a killed one."""

    node: int


# Faults of Redis.


@dataclass(frozen=True, slots=True)
class Freeze(RedisFault):
    """Redis is stopped with SIGSTOP until :class:`Thaw`, or until the end."""


@dataclass(frozen=True, slots=True)
class Thaw(RedisFault):
    """Redis continues."""


@dataclass(frozen=True, slots=True)
class DeleteKey(DataLoss):
    """A key is deleted: the one with this index, modulo the number of keys."""

    index: int


@dataclass(frozen=True, slots=True)
class DeleteRoom(DataLoss):
    """All keys of a room are deleted."""

    room: str = "a"


@dataclass(frozen=True, slots=True)
class DeleteShared(DataLoss):
    """All keys that belong to no room are deleted, as if their server of a cluster had restarted empty."""


@dataclass(frozen=True, slots=True)
class EvictRooms(DataLoss):
    """The keys of all rooms are deleted, as by a ``maxmemory-policy`` that evicts."""


@dataclass(frozen=True, slots=True)
class FlushAll(DataLoss):
    """FLUSHALL."""


@dataclass(frozen=True, slots=True)
class RestartRedis(DataLoss):
    """Redis is killed, and starts without data."""


@dataclass(frozen=True, slots=True)
class WrongType(DataLoss):
    """Each key of a room is replaced by a text."""

    room: str = "a"


@dataclass(frozen=True, slots=True)
class ClockJump(DataLoss):
    """The clock of Redis jumps; it returns at the end of the schedule only by other jumps."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Replicate(RedisFault):
    """A replica has received all data until now; what follows is lost with the next :class:`FailOver`."""

    hits_redis: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class FailOver(DataLoss):
    """Redis is killed, and a replica with the data of the last :class:`Replicate` takes its place."""


@dataclass(frozen=True)
class Schedule:
    """Steps that are executed in order; its ``repr`` is code.

    Attributes:
        steps: The steps.
        nodes: The number of nodes at the start.
    """

    steps: list[Step] = field(default_factory=list)
    nodes: int = 2

    def __repr__(self) -> str:
        lines = "".join(f"        {step!r},\n" for step in self.steps)
        return f"Schedule(\n    [\n{lines}    ],\n    nodes={self.nodes},\n)"

    def has(self, attribute: str) -> bool:
        """Return whether a step has an attribute of :class:`Step`."""
        return any(getattr(step, attribute) for step in self.steps)


PAUSES_SECONDS = (0.05, 0.3, 1.3)
JUMPS_SECONDS = (0.7, 400.0, 7200.0, -400.0)


def client_steps(nodes: int) -> list[st.SearchStrategy[Step]]:
    """Return the strategies of the steps without a fault."""
    user, room = st.sampled_from(USERS), st.sampled_from(ROOMS)
    node = st.integers(0, nodes - 1)
    return [
        *[st.builds(step, user, node, room) for step in (Join, Reload)],
        st.builds(Join, user, node),
        st.builds(Leave, user, room, st.booleans()),
        st.builds(Restrict, user, node, st.booleans()),
        st.builds(Publish, node, room),
        st.builds(PublishExternally, room),
        st.builds(PublishDirect, node),
        st.builds(ReadMembers, node, room),
        st.builds(Pause, st.sampled_from(PAUSES_SECONDS)),
    ]


def fault_steps(nodes: int, *, can_jump: bool) -> list[st.SearchStrategy[Step]]:
    """Return the strategies of the faults."""
    room, node = st.sampled_from(ROOMS), st.integers(0, nodes - 1)
    plain = (Freeze, Thaw, DeleteShared, EvictRooms, FlushAll, RestartRedis, Replicate, FailOver)
    jumps = [st.builds(ClockJump, st.sampled_from(JUMPS_SECONDS))] if can_jump else []
    return [
        st.builds(Cut, node, st.booleans()),
        *[st.builds(step, node) for step in (Restore, Kill, Start)],
        *[st.builds(step, room) for step in (DeleteRoom, WrongType)],
        st.builds(DeleteKey, st.integers(0, 20)),
        st.sampled_from([make() for make in plain]),
        *jumps,
    ]


@st.composite
def schedules(draw: st.DrawFn, *, faults: bool = True, can_jump: bool = False) -> Schedule:
    """Generate schedules with at most three faults, for two or three nodes."""
    nodes = draw(st.integers(2, 3))
    steps: list[Step] = [Join("ann", 0), Join("bob", 1)]
    calm = st.one_of(client_steps(nodes))
    fault = st.one_of(fault_steps(nodes, can_jump=can_jump))
    steps += draw(st.lists(calm, max_size=4))
    for _ in range(draw(st.integers(1, 3)) if faults else 0):
        steps.append(draw(fault))
        steps += draw(st.lists(calm, max_size=3))
    return Schedule(steps, nodes)
