"""What is measured: how many connections in which rooms, and what they say."""

from __future__ import annotations

from dataclasses import dataclass

from .plan import Kind

REFERENCE = "bare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table; the fields that a plan has too mean the same there.

    Attributes:
        unit: What of an outcome counts: the name of one of its figures.
        servers: Who takes part; empty for all.
        text_bytes: How long a delivered message is.
    """

    name: str
    title: str
    unit: str = "cpu_us"
    servers: tuple[str, ...] = ()
    kind: Kind = "burst"
    path: str = "/room/{room}"
    room_members: int = 1
    connections: int = 600
    in_flight: int = 1
    deflate: bool = False
    text_bytes: int = 110
    messages_per_second: float = 0.0


WORKLOADS = (
    Workload(name="fan-out-10", title="rooms of 10, 600 connections", room_members=10),
    Workload(name="fan-out-100", title="rooms of 100, 600 connections", room_members=100),
    Workload(
        name="fan-out-1000",
        title="one room of 1,000",
        room_members=1_000,
        connections=1_000,
    ),
    Workload(
        name="in-flight",
        title="rooms of 100, 600 connections, 8 messages in flight",
        servers=("push", "portable", "bare"),
        room_members=100,
        in_flight=8,
    ),
    Workload(
        name="deflate",
        title="rooms of 100, 600 connections, deflate negotiated",
        servers=("push", "portable", "bare"),
        room_members=100,
        deflate=True,
    ),
    Workload(
        name="echo",
        title="echo, 100 connections",
        servers=("push", "portable", "bare"),
        path="/echo",
        connections=100,
    ),
    Workload(
        name="memory",
        title="memory per idle connection, 5,000 connections",
        unit="kib",
        servers=("push", "portable", "bare"),
        kind="idle",
        path="/echo",
        connections=5_000,
    ),
)
