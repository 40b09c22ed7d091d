"""Counters are plain numbers; a histogram has fixed buckets."""

import pytest

from falcon_pachinko.support.counters import BOUNDS, Counters, Histogram


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (1.0, 9), (10.0, 12), (10.1, 13)]
)
def test_a_duration_is_in_the_bucket_whose_bound_it_does_not_exceed(
    seconds: float, bucket: int
) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert histogram.buckets[bucket] == sum(histogram.buckets) == 1
    assert histogram.seconds == seconds


class Numbered:
    number = 0


def test_all_numbers_begin_at_zero() -> None:
    counters = Counters()
    assert not counters.counting
    assert len(counters.joins.buckets) == len(BOUNDS) + 1
    counters.refusals["full"] += 1
    counters.types["say"].others += 1
    entry = Numbered()
    counters.types["say"].entries.append(entry)
    entry.number += 2
    assert (counters.refusals["full"], counters.types["say"].messages) == (1, 3)
