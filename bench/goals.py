"""Bounds for the figures of the framework, each from one interleaved run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from .run import Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound for one figure.

    Attributes:
        title: A description.
        workload: The name of the workload.
        server: The name of the server.
        figure: The name of the figure.
        against: The server that it is compared with in each round; empty for the figure itself.
        difference: Whether the difference is bounded; otherwise the ratio.
        worst: Whether the worst round is bounded; otherwise the median.
        at_most: The bound.
    """

    title: str
    workload: str
    server: str = "push"
    figure: str = "cpu_us"
    against: str = ""
    difference: bool = False
    worst: bool = False
    at_most: float

    def measured(self, results: Mapping[str, Outcomes]) -> float | None:
        """Return the median or the worst of all rounds; ``None`` if it was not measured."""
        outcomes = results.get(self.workload, {})
        values = figures(outcomes, self.server, self.figure)
        if self.against:
            others = figures(outcomes, self.against, self.figure)
            pairs = list(zip(values, others, strict=False))
            values = [a - b if self.difference else a / b for a, b in pairs]
        if not values:
            return None
        return max(values) if self.worst else statistics.median(values)


def figures(outcomes: Outcomes, server: str, figure: str) -> list[float]:
    """Return a figure of a server, by round."""
    return [outcome[figure] for outcome in outcomes.get(server, ())]


GOALS = (
    Goal(
        title="fan-out to 100, push, against the bare ASGI loop",
        workload="fan-out-100",
        against="bare",
        at_most=0.65,
    ),
    Goal(
        title="the same with 8 messages in flight per room",
        workload="in-flight",
        against="bare",
        at_most=0.22,
    ),
    Goal(
        title="the same with deflate negotiated",
        workload="deflate",
        against="bare",
        at_most=0.32,
    ),
    Goal(
        title="fan-out to 100, push, against Node ws",
        workload="fan-out-100",
        against="ws",
        at_most=0.85,
    ),
    Goal(
        title="fan-out to 100, push, against send(2) in a C loop",
        workload="fan-out-100",
        against="floor",
        at_most=1.3,
    ),
    Goal(
        title="fan-out to 100, portable, against the bare ASGI loop in the same process",
        workload="beside",
        server="portable-beside",
        against="bare-beside",
        at_most=1.10,
    ),
    Goal(
        title="fan-out to 100 on connections that may be in several rooms, against those of one room",
        workload="several-rooms",
        server="push-rooms",
        against="push",
        at_most=1.05,
    ),
    Goal(
        title="fan-out to 1,000, push, against Starlette's send_json",
        workload="fan-out-1000",
        against="starlette",
        at_most=0.45,
    ),
    Goal(
        title="fan-out to 100, push, against python-socketio",
        workload="fan-out-100",
        against="socketio",
        at_most=1 / 8,
    ),
    Goal(
        title="fan-out to 100, push, against Django Channels in memory",
        workload="fan-out-100",
        against="channels",
        at_most=1 / 35,
    ),
    Goal(
        title="echo with typed dispatch, portable, against a bare ASGI echo",
        workload="echo",
        server="portable",
        against="bare",
        at_most=1.20,
    ),
    Goal(
        title="echo with typed dispatch, push, against a bare ASGI echo",
        workload="echo",
        against="bare",
        at_most=0.95,
    ),
    Goal(
        title="memory per idle connection over bare ASGI, KiB, 5,000 connections, push",
        workload="memory",
        figure="kib",
        against="bare",
        difference=True,
        at_most=5.0,
    ),
    Goal(
        title="the same, portable",
        workload="memory",
        server="portable",
        figure="kib",
        against="bare",
        difference=True,
        at_most=5.0,
    ),
    Goal(
        title="p99 of the others with one stalled reader, against none",
        workload="stall",
        figure="p99_ratio",
        at_most=1.15,
    ),
    Goal(
        title="two processes over Valkey, against one without, per delivery, rooms of 100",
        workload="two-processes",
        server="push-two-nodes",
        against="push",
        at_most=1.08,
    ),
    Goal(
        title="the same against two processes of python-socketio over Valkey",
        workload="two-processes",
        server="push-two-nodes",
        against="socketio-two-nodes",
        at_most=1 / 3,
    ),
    Goal(
        title="the same against two processes of Django Channels over Valkey",
        workload="two-processes",
        server="push-two-nodes",
        against="channels-two-nodes",
        at_most=1 / 10,
    ),
    Goal(
        title="p50 added by Valkey at 100 messages a second in one room, ms",
        workload="redis-latency",
        server="push-one-node",
        figure="p50_ms",
        against="push",
        difference=True,
        at_most=0.6,
    ),
    Goal(
        title="CPU of publishing, joined per loop iteration, against one awaited PUBLISH each",
        workload="publishing",
        server="joined",
        against="awaited",
        at_most=0.25,
    ),
    Goal(
        title="clients of 1,000 without all 100 missed messages, in the worst round",
        workload="recovery",
        server="recovery",
        figure="incomplete",
        worst=True,
        at_most=0.0,
    ),
    Goal(
        title="p99 of live traffic while 1,000 clients recover 100 messages, against before",
        workload="recovery",
        server="recovery",
        figure="p99_ratio",
        at_most=2.0,
    ),
    Goal(
        title="p99 of live traffic while the clients of a drained node move to it, against before",
        workload="drain",
        server="drain",
        figure="p99_ratio",
        at_most=2.0,
    ),
    Goal(
        title="CPU of a node for a client that joins a room and leaves, above a bare handshake, µs",
        workload="visits",
        server="visits",
        at_most=600.0,
    ),
    Goal(
        title="CPU of Valkey for the same, µs",
        workload="visits",
        server="visits",
        figure="redis_us",
        at_most=150.0,
    ),
)
