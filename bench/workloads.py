"""The workloads: connections, rooms and messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# The reference of ratios.
REFERENCE = "bare"

Kind = Literal["cpu", "memory", "latency", "paced", "stall", "trial"]


# Servers that participate in workloads that name none.
GENERAL = (
    "push",
    "bare",
    "portable",
    "floor",
    "ws",
    "starlette",
    "litestar",
    "socketio-node",
    "socketio",
    "chanx",
    "channels",
)


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
        room_members, connections, in_flight, deflate: See ``Plan``.
        messages_per_second: A fixed rate; 0 for half of the server's maximum.
        seconds: The duration of a measurement, in units of ``--seconds``.
        starts: The number of starts, in units of ``--starts``.
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
    in_flight: int = 1
    deflate: bool = False
    messages_per_second: float = 0.0
    seconds: float = 1.0
    starts: int = 1

    def participants(self, servers: Iterable[str]) -> list[str]:
        """Return the servers that participate."""
        return [server for server in servers if server in self.servers]


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
        name="several-rooms",
        title="rooms of 100, 600 connections, each of which may be in several rooms",
        servers=("push", "push-rooms"),
        reference="push",
        room_members=100,
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
        title="a room of 100 with a stalled reader, 200 messages of 4,000 bytes a second",
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
        title="rooms of 100, 600 connections, over Valkey",
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
        name="redis-latency",
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
        title="32 broadcasts in one loop iteration",
        kind="trial",
        servers=("joined", "awaited"),
        reference="awaited",
    ),
    Workload(
        name="recovery",
        title="1,000 clients reconnect at once, with 100 missed messages each",
        kind="trial",
        servers=("recovery",),
        reference="recovery",
        seconds=5,
    ),
    Workload(
        name="drain",
        title="a node is drained at the default rate, and its clients move to one with live traffic",
        kind="trial",
        servers=("drain",),
        reference="drain",
        seconds=17,
    ),
    Workload(
        name="visits",
        title="100 clients at once join a room and leave it, above the cost of a bare handshake",
        kind="trial",
        servers=("visits", "visits-alone", "visits-recent"),
        reference="visits",
    ),
)
