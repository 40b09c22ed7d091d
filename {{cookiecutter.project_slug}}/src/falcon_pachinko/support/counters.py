"""The events of one process, as plain numbers: incremented by the framework, read by a collector."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

# Upper bounds of the buckets of all histograms, in seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Durations in fixed buckets.

    Attributes:
        buckets: The number of durations in each bucket of :data:`BOUNDS`, and above the last one.
        seconds: The sum of all durations.
    """

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Add a duration."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Numbered(Protocol):
    """What counts messages.

    Attributes:
        number: The number of messages.
    """

    number: int


class TypeCounts:
    """The messages of one type.

    Attributes:
        handling: The time of their handlers, for a sample of them.
        entries: What counts its messages, in each table of handlers that has it.
        others: The number of messages that have no entry.
    """

    __slots__ = ("entries", "handling", "others")

    def __init__(self) -> None:
        self.handling = Histogram()
        self.entries: list[Numbered] = []
        self.others = 0

    @property
    def messages(self) -> int:
        """The number of messages."""
        return self.others + sum(entry.number for entry in self.entries)


class Counters:
    """The events of one application in one process since its start.

    Rare events are always counted. What would cost time for each message is counted only after
    :attr:`counting` has been set, see :func:`..rooms.counted.count_events`.

    Attributes:
        counting: Whether messages are counted.
        accepts: The connections that have been accepted.
        refusals: Refused handshakes by reason.
        closes: Ended connections by close code.
        known_codes: The close codes that have a label of their own; a client may send any other one.
        types: The messages of clients by type.
        samplers: Functions that have the next message of a type timed.
        messages_out: The messages to clients.
        rate_refusals: The messages above a rate.
        joins: The time of joining a room.
        recovered: The rooms in which a reconnecting client has got all that it had missed.
        unrecovered: The rooms in which it has not.
        worker_starts: The starts of workers, those after a failure included.
        worker_deaths: The failures of workers.
        workers: The workers that run.
        redis_calls: The time of calls to Redis.
        redis_lag: The time from the publication of a message to a room until its receipt.
        unavailable_seconds: The duration of all outages of Redis that have ended.
        loop_lag: The delay of the timers of the event loop.
    """

    __slots__ = (
        "accepts",
        "closes",
        "counting",
        "joins",
        "known_codes",
        "loop_lag",
        "messages_out",
        "rate_refusals",
        "recovered",
        "redis_calls",
        "redis_lag",
        "refusals",
        "samplers",
        "types",
        "unavailable_seconds",
        "unrecovered",
        "worker_deaths",
        "worker_starts",
        "workers",
    )

    def __init__(self) -> None:
        self.counting = False
        self.accepts = 0
        self.refusals: defaultdict[str, int] = defaultdict(int)
        self.closes: defaultdict[int, int] = defaultdict(int)
        self.known_codes: set[int] = set()
        self.types: defaultdict[str, TypeCounts] = defaultdict(TypeCounts)
        self.samplers: list[Callable[[], None]] = []
        self.messages_out = 0
        self.rate_refusals = 0
        self.joins = Histogram()
        self.recovered = 0
        self.unrecovered = 0
        self.worker_starts = 0
        self.worker_deaths = 0
        self.workers = 0
        self.redis_calls = Histogram()
        self.redis_lag = Histogram()
        self.unavailable_seconds = 0.0
        self.loop_lag = Histogram()
