"""What is measured: how many connections in which rooms, and what they say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# What ratios are taken against.
REFERENCE = "bare"

Kind = Literal["cpu", "memory", "latency", "paced", "stall", "trial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What all servers that take part are asked to do.

    Attributes:
        name: What the command line calls it.
        title: What the table calls it.
        kind: What is measured.
        servers: Who takes part; empty for all but guests.
        reference: What ratios are taken against.
        path: Where a client connects; empty for the server's rooms.
        text_bytes: How long a message is.
        room_members, connections, in_flight, deflate: see ``Plan``.
        messages_per_second: Where the pace is the same for all; 0 for half of what a server can do.
        seconds: How long a measurement is, in units of ``--seconds``.
        starts: How often all are started anew, in units of ``--starts``.
    """

    name: str
    title: str
    kind: Kind = "cpu"
    servers: tuple[str, ...] = ()
    reference: str = REFERENCE
    path: str = ""
    text_bytes: int = 110
    room_members: int = 1
    connections: int = 600
    in_flight: int = 1
    deflate: bool = False
    messages_per_second: float = 0.0
    seconds: float = 1.0
    starts: int = 1

    def takes_part(self, servers: Iterable[str]) -> list[str]:
        """Which of these servers take part."""
        return [s for s in servers if (s in self.servers if self.servers else s not in GUESTS)]


# They take part only where they are named.
GUESTS = (
    "portable-beside",
    "bare-beside",
    "push-one-node",
    "push-two-nodes",
    "socketio-two-nodes",
    "channels-two-nodes",
    "joined",
    "awaited",
    "recovery",
)
OURS = ("push", "bare", "portable")

WORKLOADS = (
    Workload(name="fan-out-10", title="rooms of 10, 600 connections", room_members=10),
    Workload(name="fan-out-100", title="rooms of 100, 600 connections", room_members=100),
    Workload(
        name="fan-out-1000",
        title="a room of 1,000",
        room_members=1_000,
        connections=1_000,
    ),
    Workload(
        name="beside",
        title="rooms of 100, 600 connections, in the same process",
        servers=("bare-beside", "portable-beside"),
        reference="bare-beside",
        room_members=100,
    ),
    Workload(
        name="in-flight",
        title="rooms of 100, 600 connections, 8 messages in flight per room",
        servers=OURS,
        room_members=100,
        in_flight=8,
    ),
    Workload(
        name="deflate",
        title="rooms of 100, 600 connections, deflate negotiated",
        servers=OURS,
        room_members=100,
        deflate=True,
    ),
    Workload(
        name="echo",
        title="echo, 100 connections",
        servers=OURS,
        path="/echo",
        connections=100,
    ),
    Workload(
        name="memory",
        title="5,000 idle connections",
        kind="memory",
        servers=OURS,
        path="/echo",
        connections=5_000,
    ),
    Workload(
        name="latency",
        title="rooms of 100, 600 connections, at half load",
        kind="latency",
        servers=OURS,
        room_members=100,
        seconds=3,
    ),
    Workload(
        name="stall",
        title="a room of 100 with one more who reads nothing, 200 messages of 4,000 bytes a second",
        kind="stall",
        servers=(*OURS, "ws"),
        room_members=100,
        connections=100,
        text_bytes=4_000,
        messages_per_second=200,
        seconds=10,
        starts=2,
    ),
    Workload(
        name="two-processes",
        title="rooms of 100, 600 connections, over an engine",
        servers=(
            "push",
            "push-one-node",
            "push-two-nodes",
            "socketio-two-nodes",
            "channels-two-nodes",
        ),
        reference="push",
        room_members=100,
    ),
    Workload(
        name="engine-latency",
        title="one room of 100, 100 messages a second",
        kind="paced",
        servers=("push", "push-one-node"),
        reference="push",
        room_members=100,
        connections=100,
        messages_per_second=100,
        seconds=5,
    ),
    Workload(
        name="publishing",
        title="32 broadcasts in one turn of the event loop",
        kind="trial",
        servers=("joined", "awaited"),
        reference="awaited",
    ),
    Workload(
        name="recovery",
        title="1,000 clients come back at once, each has missed 100 messages",
        kind="trial",
        servers=("recovery",),
        reference="recovery",
        seconds=5,
    ),
)
