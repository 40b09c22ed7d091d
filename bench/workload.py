"""A workload: its connections, rooms and messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

# The reference of ratios.
REFERENCE = "bare"

Kind = Literal[
    "cpu", "broadcast", "connect", "join", "memory", "latency", "paced", "scale", "stall", "trial"
]

# Servers that participate in workloads that name none.
GENERAL = (
    "push",
    "batched",
    "bare",
    "floor",
    "bun",
    "socketify",
    "picows",
    "floor-uring",
    "portable",
    "websockets",
    "aiohttp",
    "ws",
    "starlette-text",
    "starlette",
    "litestar",
    "socketio-node",
    "socketio",
    "chanx",
    "channels",
)
# Servers that run at once. More of them would share the caches, and all pages of the kernel's buffers.
AT_ONCE = 7
# The share of its connections with which a workload with stages runs, where open files are too few for all.
FITTING = 0.95
# In each group of servers that run at once, if they participate.
ANCHORS = ("push", "bare", "floor", "push-two-nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A workload.

    Attributes:
        name: The name on the command line.
        title: The title in tables.
        kind: The kind of measurement.
        servers: The participating servers.
        reference: The server that ratios refer to.
        path: The path of all connections; empty for the server's rooms.
        text_bytes: The size of a message.
        room_members, connections: The size of each room, and of all together.
        sizes: The sizes of the rooms that clients join.
        stages: The numbers of connections at which a server is measured, one after the other, up to all.
        processes: The number of processes of a load client, each with a share of the rooms.
        visitors, in_flight, offer, accepted: See ``Plan``.
        default_collector: Whether servers in Python keep Python's own settings of the collector.
        messages_per_second: A fixed rate; 0 for half of the server's maximum.
        seconds: The duration of a measurement, in units of ``--seconds``.
        starts: The number of starts, in units of ``--starts``.
        at_once: The number of servers that run at once.
    """

    name: str
    title: str
    kind: Kind = "cpu"
    servers: tuple[str, ...] = GENERAL
    reference: str = REFERENCE
    path: str = ""
    text_bytes: int = 110
    room_members: int = 1
    connections: int = 600
    sizes: tuple[int, ...] = ()
    stages: tuple[int, ...] = ()
    processes: int = 1
    visitors: int = 0
    in_flight: int = 1
    offer: str = ""
    accepted: tuple[str, ...] = ()
    default_collector: bool = False
    messages_per_second: float = 0.0
    seconds: float = 1.0
    starts: int = 1
    at_once: int = AT_ONCE

    def participants(self, servers: Iterable[str]) -> list[str]:
        """Return the servers that participate, in their order in the workload: those that are compared run at once."""
        chosen = set(servers)
        return [server for server in self.servers if server in chosen]

    def rooms(self) -> tuple[int, ...]:
        """Return the size of each room; none if clients only connect."""
        if self.kind in ("connect", "trial"):
            return ()
        return self.sizes or (self.room_members,) * (self.connections // self.room_members)

    def limited(self, connections: int) -> Workload:
        """Return the workload with an upper bound of connections in a room, and of all visitors."""
        return dataclasses.replace(
            self,
            connections=min(self.connections, connections),
            room_members=min(self.room_members, connections),
            sizes=tuple(dict.fromkeys(min(size, connections) for size in self.sizes)),
            stages=tuple(dict.fromkeys(min(stage, connections) for stage in self.stages)),
            visitors=min(self.visitors, connections),
        )

    def open_files(self) -> int:
        """Return the number of connections of a process."""
        return sum(self.rooms()) + self.visitors

    def fitted(self, connections: int) -> Workload:
        """Return the workload with whole rooms of at most so many connections, if it may have a few less than all."""
        fitting = connections // self.room_members * self.room_members
        if self.stages and fitting < self.connections and fitting >= FITTING * self.connections:
            return self.limited(fitting)
        return self

    def groups(self, servers: Sequence[str]) -> Iterator[list[str]]:
        """Yield the servers that run at once: a few, among them those that others are compared with."""
        anchors = [name for name in servers if name in {*ANCHORS, self.reference}]
        others = [name for name in servers if name not in anchors]
        if len(servers) <= self.at_once:
            yield list(servers)
            return
        size = self.at_once - len(anchors)
        for first in range(0, len(others), size):
            yield anchors + others[first : first + size]
