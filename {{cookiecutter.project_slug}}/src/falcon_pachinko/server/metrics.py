"""The metrics of a service: their names and labels, the numbers of one process, and the sum of several."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import msgspec

PREFIX = "pachinko_"

# A number, or for a histogram the sum of its durations and the number of them in each bucket.
Value = float | list[float]
# The numbers of one process: by metric, the values of the labels and the number.
Snapshot = dict[str, list[tuple[tuple[str, ...], Value]]]

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Merge(Enum):
    """How the numbers of several processes become one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: The name without the prefix; that of a counter ends with ``_total``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        unit: The unit.
        text: What it counts or measures.
        labels: The names of its labels, each of which has a bounded set of values.
        merge: How the numbers of several processes become one.
    """

    name: str
    kind: str
    unit: str
    text: str
    labels: tuple[str, ...] = ()
    merge: Merge = Merge.SUM

    @property
    def full_name(self) -> str:
        """The name with the prefix, as in queries."""
        return PREFIX + self.name


METRICS = (
    Metric("processes", GAUGE, "processes", "Processes whose numbers are added up."),
    Metric("connections", GAUGE, "connections", "Open WebSocket connections."),
    Metric("connections_limit", GAUGE, "connections", "The bound of open connections."),
    Metric("accepts_total", COUNTER, "connections", "Accepted connections."),
    Metric("refusals_total", COUNTER, "handshakes", "Refused handshakes.", ("reason",)),
    Metric("closes_total", COUNTER, "connections", "Ended connections by close code.", ("code",)),
    Metric("messages_in_total", COUNTER, "messages", "Messages of clients.", ("type",)),
    Metric("messages_out_total", COUNTER, "messages", "Messages to clients."),
    Metric("handler_seconds", HISTOGRAM, "seconds", "Time of handlers, sampled.", ("type",)),
    Metric("outbox_bytes", GAUGE, "bytes", "Messages that wait for clients."),
    Metric(
        "outbox_largest_bytes", GAUGE, "bytes", "The largest outbox of a client.", (), Merge.MAX
    ),
    Metric("slow_readers_total", COUNTER, "connections", "Connections closed with 4008."),
    Metric("rate_refusals_total", COUNTER, "messages", "Messages above a rate."),
    Metric("rooms", GAUGE, "rooms", "Rooms with members; in each process that has some."),
    Metric("members", GAUGE, "memberships", "Connections in rooms."),
    Metric("history_bytes", GAUGE, "bytes", "Messages kept for reconnecting clients."),
    Metric("join_seconds", HISTOGRAM, "seconds", "Time of joining a room."),
    Metric("recoveries_total", COUNTER, "joins", "Rooms of reconnecting clients.", ("recovered",)),
    Metric("redis_up", GAUGE, "", "1 while Redis is available or not used.", (), Merge.MIN),
    Metric("redis_unavailable_seconds_total", COUNTER, "seconds", "Duration of outages of Redis."),
    Metric("redis_call_seconds", HISTOGRAM, "seconds", "Time of calls to Redis."),
    Metric("redis_lag_seconds", HISTOGRAM, "seconds", "Time from publication to receipt."),
    Metric("workers", GAUGE, "workers", "Workers that run."),
    Metric("worker_starts_total", COUNTER, "workers", "Starts of workers."),
    Metric("worker_deaths_total", COUNTER, "workers", "Failures of workers."),
    Metric("event_loop_lag_seconds", HISTOGRAM, "seconds", "Delay of the event loop's timers."),
    Metric(
        "build_info", GAUGE, "", "1, with the versions.", ("version", "falcon", "python"), Merge.MAX
    ),
)


def merge(snapshots: Iterable[Snapshot], ended: Iterable[Snapshot] = ()) -> Snapshot:
    """Add up the numbers of several processes; see :class:`Merge`.

    Args:
        snapshots: Those of the processes that run.
        ended: The last ones of those that have ended. Their counters and histograms still count, because a sum
            that decreases would look like a restart of the whole service; their gauges do not.
    """
    by_name = {metric.name: metric for metric in METRICS}
    found: dict[str, dict[tuple[str, ...], Value]] = {name: {} for name in by_name}
    for lives, group in ((True, snapshots), (False, ended)):
        for snapshot in group:
            for name, samples in snapshot.items():
                metric = by_name.get(name)
                if metric is None or (metric.kind == GAUGE and not lives):
                    continue  # the first one: of another version, during an update
                for labels, value in samples:
                    known = found[name].get(labels)
                    found[name][labels] = (
                        value if known is None else merge_values(known, value, metric.merge)
                    )
    return {name: list(samples.items()) for name, samples in found.items()}


def merge_values(first: Value, second: Value, way: Merge) -> Value:
    """Merge two numbers, or two histograms of the same buckets."""
    if isinstance(first, list) or isinstance(second, list):
        assert isinstance(first, list)
        assert isinstance(second, list)
        return [a + b for a, b in zip(first, second, strict=True)]
    if way is Merge.SUM:
        return first + second
    return max(first, second) if way is Merge.MAX else min(first, second)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Encode the numbers of a process for another one."""
    return msgspec.json.encode(snapshot)


DECODER = msgspec.json.Decoder(Snapshot)


def decode_snapshot(encoded: bytes) -> Snapshot:
    """Decode the result of :func:`encode_snapshot`.

    Raises:
        msgspec.DecodeError: It is not valid.
    """
    return DECODER.decode(encoded)
