"""The metrics of an application: what is counted, and what is read from its state at each scrape."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator
from typing import Any

from ..close_codes import SLOW_READER
from ..errors import RegistrationError
from ..server.loop_lag import LoopLag
from ..server.metrics import Snapshot, Value
from ..support.counters import Histogram
from .counted import ALL_REASONS, count_events


class AppMetrics:
    """The numbers of an application in this process.

    From now on its messages are counted, so it is made before the first connection, and with the last route.

    Args:
        app: The application, made by :func:`~falcon_pachinko.install`.
        version: The version of the service.
    """

    def __init__(self, app: Any, version: str = "") -> None:
        self.admission = app.ws_admission
        self.backend = app.ws_connection_manager.backend
        self.counters = count_events(app.ws_connection_manager, self.admission)
        self.registry = app.ws_connection_manager._registry
        self.loop_lag = LoopLag(self._on_timer)
        falcon_version = importlib.metadata.version("falcon")
        self.versions = (version, falcon_version, platform.python_version())
        for route in app.ws_routes:
            # NOTE: a route whose factory does not declare its class has no contract.
            with contextlib.suppress(RegistrationError):
                self.counters.known_codes |= route.contract.closes.keys()

    def _on_timer(self, delay_seconds: float) -> None:
        self.counters.loop_lag.observe(delay_seconds)
        for sample_next in self.counters.samplers:
            sample_next()

    def measure(self) -> Snapshot:
        """Return the numbers now."""
        self.registry.count_messages()
        return dict(self._samples())

    def _samples(self) -> Iterator[tuple[str, list[tuple[tuple[str, ...], Value]]]]:
        """Yield the numbers of each metric by the values of its labels."""
        counters = self.counters
        for name, number in (*self._state(), *self._totals()):
            yield name, [((), float(number))]
        for name, histogram in (
            ("join_seconds", counters.joins),
            ("redis_call_seconds", counters.redis_calls),
            ("redis_lag_seconds", counters.redis_lag),
            ("event_loop_lag_seconds", counters.loop_lag),
        ):
            yield name, [((), value_of(histogram))]
        yield "build_info", [(self.versions, 1.0)]
        by_type = sorted(counters.types.items())
        yield "messages_in_total", [((kind,), float(each.messages)) for kind, each in by_type]
        yield (
            "handler_seconds",
            [((kind,), value_of(each.handling)) for kind, each in by_type if each.messages],
        )
        # NOTE: zeros, too: Prometheus sees no increase in a series that begins with its first event.
        refusals = dict.fromkeys(ALL_REASONS, 0) | counters.refusals
        yield "refusals_total", [((why,), float(n)) for why, n in sorted(refusals.items())]
        closes = {str(code): 0 for code in sorted(counters.known_codes)} | {"other": 0}
        for code, number in sorted(counters.closes.items()):
            closes[str(code) if code in counters.known_codes else "other"] += number
        yield "closes_total", [((code,), float(number)) for code, number in closes.items()]
        yield (
            "recoveries_total",
            [
                (("yes",), float(counters.recovered)),
                (("no",), float(counters.unrecovered)),
            ],
        )

    def _state(self) -> Iterator[tuple[str, float]]:
        """Yield what is read from the state of the application."""
        registry = self.registry
        synced, unsynced = registry.synced.members_by_room, registry.unsynced.members_by_room
        members = sum(map(len, synced.values())) + sum(map(len, unsynced.values()))
        yield "processes", 1
        yield "connections", len(registry.connections)
        yield "connections_limit", self.admission.connections
        # PERF: of the last check, because a look at each of 10,000 outboxes takes 4 ms.
        yield "outbox_bytes", registry.budget.outbox_bytes
        yield "outbox_largest_bytes", registry.budget.largest_bytes
        yield "rooms", len(synced.keys() | unsynced.keys())
        yield "members", members
        yield "history_bytes", self.backend.history_bytes
        yield "redis_up", not self.backend.outage
        yield "workers", self.counters.workers

    def _totals(self) -> Iterator[tuple[str, float]]:
        """Yield the numbers of events without labels."""
        counters = self.counters
        yield "accepts_total", counters.accepts
        yield "messages_out_total", counters.messages_out
        yield "slow_readers_total", counters.closes.get(SLOW_READER, 0)
        yield "rate_refusals_total", counters.rate_refusals
        yield "redis_unavailable_seconds_total", self.backend.unavailable_seconds
        yield "worker_starts_total", counters.worker_starts
        yield "worker_deaths_total", counters.worker_deaths


def value_of(histogram: Histogram) -> Value:
    """Return the sum of a histogram's durations, and the number of them in each bucket."""
    return [histogram.seconds, *map(float, histogram.buckets)]
