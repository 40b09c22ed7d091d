"""The names of metrics, and the numbers of several processes together."""

import re

import msgspec
import pytest

from falcon_pachinko.server.metrics import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    METRICS,
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    merge,
)


def test_names_follow_the_conventions_of_prometheus() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"pachinko_[a-z]+(_[a-z]+)*", metric.full_name)
        assert metric.kind in (COUNTER, GAUGE, HISTOGRAM)
        assert metric.name.endswith("_total") == (metric.kind == COUNTER)
        assert metric.text.endswith(".")
        if metric.unit in ("seconds", "bytes"):
            assert metric.unit in metric.name


def test_numbers_are_added_up_and_the_largest_outbox_is_a_maximum() -> None:
    first: Snapshot = {
        "connections": [((), 2.0)],
        "outbox_largest_bytes": [((), 70.0)],
        "redis_up": [((), 1.0)],
        "closes_total": [(("1000",), 1.0)],
        "join_seconds": [((), [0.5, 1.0, 0.0])],
    }
    second: Snapshot = {
        "connections": [((), 3.0)],
        "outbox_largest_bytes": [((), 20.0)],
        "redis_up": [((), 0.0)],
        "closes_total": [(("1000",), 4.0), (("1001",), 1.0)],
        "join_seconds": [((), [1.5, 1.0, 2.0])],
        "of_another_version": [((), 1.0)],
    }
    both = merge([first, decode_snapshot(encode_snapshot(second))])
    assert both["connections"] == [((), 5.0)]
    assert both["outbox_largest_bytes"] == [((), 70.0)]
    assert both["redis_up"] == [((), 0.0)]
    assert dict(both["closes_total"]) == {("1000",): 5.0, ("1001",): 1.0}
    assert both["join_seconds"] == [((), [2.0, 2.0, 2.0])]
    assert "of_another_version" not in both
    assert both.keys() == {metric.name for metric in METRICS}


def test_of_a_process_that_has_ended_only_counters_and_histograms_count() -> None:
    living: Snapshot = {"connections": [((), 2.0)], "accepts_total": [((), 5.0)]}
    ended: Snapshot = {
        "connections": [((), 4.0)],
        "accepts_total": [((), 7.0)],
        "join_seconds": [((), [0.5, 1.0])],
    }
    both = merge([living], [ended])
    assert both["connections"] == [((), 2.0)]
    assert both["accepts_total"] == [((), 12.0)]
    assert both["join_seconds"] == [((), [0.5, 1.0])]


def test_a_snapshot_that_is_not_valid_is_refused() -> None:
    for encoded in (b"", b"[]", b'{"connections": [[[], "many"]]}'):
        with pytest.raises(msgspec.DecodeError):
            decode_snapshot(encoded)
