"""The token bucket: burst size, refill rate, debt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.connection.rate_limit import TokenBucket


def test_full_bucket_gives_exactly_its_size() -> None:
    bucket = TokenBucket(per_second=1.0, size=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]


def test_tokens_refill_at_the_rate_up_to_the_size() -> None:
    bucket = TokenBucket(per_second=2.0, size=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True] * 3
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    bucket = TokenBucket(per_second=2.0, size=3, now=0.0)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_further_takes_add_debt_up_to_the_bucket_size() -> None:
    bucket = TokenBucket(per_second=1.0, size=2, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert not bucket.exhausted
    assert bucket.empty_seconds == 2.0
    assert not bucket.take(0.0)
    assert bucket.exhausted
    assert bucket.empty_seconds == 3.0


@pytest.mark.parametrize("early", [0.0, 0.001])
def test_empty_seconds_is_the_exact_waiting_time(early: float) -> None:
    bucket = TokenBucket(per_second=10.0, size=2, now=0.0)
    while bucket.take(0.0):
        pass
    assert bucket.take(bucket.empty_seconds - early) is (early == 0.0)


@given(
    per_second=st.floats(0.1, 1000),
    size=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 2), max_size=200),
)
def test_no_interval_exceeds_size_and_rate(per_second: float, size: int, gaps: list[float]) -> None:
    bucket = TokenBucket(per_second, size, now=0.0)
    now, taken = 0.0, []
    for gap in gaps:
        now += gap
        if bucket.take(now):
            taken.append(now)
    for first, start in enumerate(taken):
        for last, end in enumerate(taken[first:], start=1):
            assert last <= size + (end - start) * per_second + 1e-6
