"""The text format of Prometheus, with its own client library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ConfigurationError
from ..support.counters import BOUNDS
from .metrics import COUNTER, HISTOGRAM, METRICS, Metric, Snapshot, Value

MISSING_EXTRA = (
    "metrics need prometheus-client: install the extra 'metrics' (pip install -e '.[metrics]'), or leave"
    " APP_METRICS_PORT and APP_METRICS_TOKEN empty"
)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """Writes the numbers of a service in the text format.

    Raises:
        ConfigurationError: prometheus-client is not installed.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client
            from prometheus_client import core
        except ImportError:
            raise ConfigurationError(MISSING_EXTRA) from None
        self.core: Any = core
        self.write = prometheus_client.generate_latest
        # NOTE: not the library's own registry, which other parts of a program may use.
        self.registry = prometheus_client.CollectorRegistry(auto_describe=False)
        self.snapshot: Snapshot = {}
        self.registry.register(self)

    def text(self, snapshot: Snapshot) -> bytes:
        """Return the text of the numbers."""
        self.snapshot = snapshot
        return self.write(self.registry)

    def collect(self) -> Iterator[Any]:
        """Yield all metrics: the method of a collector that the library calls."""
        for metric in METRICS:
            family = self.family(metric)
            for labels, value in self.snapshot.get(metric.name, ()):
                self.add(family, metric, labels, value)
            yield family

    def family(self, metric: Metric) -> Any:
        """Return the library's object for a metric."""
        if metric.kind == COUNTER:
            kind = self.core.CounterMetricFamily
        elif metric.kind == HISTOGRAM:
            kind = self.core.HistogramMetricFamily
        else:
            kind = self.core.GaugeMetricFamily
        return kind(metric.full_name, metric.text, labels=metric.labels)

    def add(self, family: Any, metric: Metric, labels: tuple[str, ...], value: Value) -> None:
        """Add a number with its labels."""
        if not isinstance(value, list):
            family.add_metric(labels, value)
            return
        seconds, *counts = value
        total, buckets = 0.0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, seconds)
