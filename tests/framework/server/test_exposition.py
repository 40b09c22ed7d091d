"""The text of the metrics, as Prometheus reads it."""

import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from falcon_pachinko import ConfigurationError
from falcon_pachinko.server.exposition import Exposition
from falcon_pachinko.server.metrics import COUNTER, METRICS
from falcon_pachinko.support.counters import Histogram

from ..support.counted import counted_app


def test_every_metric_is_in_the_text_with_its_kind_and_labels() -> None:
    _, metrics = counted_app()
    metrics.counters.types["say"].others += 1
    metrics.counters.refusals["full"] += 1
    metrics.counters.closes[1000] += 1
    text = Exposition().text(metrics.measure()).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for metric in METRICS:
        name = metric.full_name
        family = families[name.removesuffix("_total") if metric.kind == COUNTER else name]
        assert (family.type, family.documentation) == (metric.kind, metric.text)
        assert family.samples
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(metric.labels)
    assert len(families) == len(METRICS)


def test_buckets_are_cumulative() -> None:
    histogram = Histogram()
    for seconds in (0.0005, 0.003, 0.003, 99.0):
        histogram.observe(seconds)
    values = [histogram.seconds, *map(float, histogram.buckets)]
    text = Exposition().text({"join_seconds": [((), values)]}).decode()
    assert 'pachinko_join_seconds_bucket{le="0.001"} 1.0\n' in text
    assert 'pachinko_join_seconds_bucket{le="0.005"} 3.0\n' in text
    assert 'pachinko_join_seconds_bucket{le="10.0"} 3.0\n' in text
    assert 'pachinko_join_seconds_bucket{le="+Inf"} 4.0\n' in text
    assert "pachinko_join_seconds_count 4.0\n" in text
    assert f"pachinko_join_seconds_sum {histogram.seconds}\n" in text


def test_without_the_library_the_error_names_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"pip install -e '\.\[metrics\]'"):
        Exposition()
