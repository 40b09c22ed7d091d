"""The token bucket: burst size, refill rate, debt."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import Limits
from falcon_pachinko.connection.rate_limit import (
    REFUSALS_BEFORE_CLOSE,
    MessageRates,
    TokenBucket,
    TokenBuckets,
    address_of,
    key_of,
)


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


def test_the_debt_is_bounded_by_the_size() -> None:
    bucket = TokenBucket(per_second=1.0, size=2, now=0.0)
    for _ in range(1000):
        bucket.take(0.0)
    assert bucket.exhausted
    assert bucket.empty_seconds == 3.0


def test_taking_what_is_available_never_goes_into_debt() -> None:
    bucket = TokenBucket(per_second=1.0, size=2, now=0.0)
    assert [bucket.take_available(0.0) for _ in range(5)] == [True, True, False, False, False]
    assert bucket.empty_seconds == 1.0
    assert [bucket.take_available(1.0) for _ in range(2)] == [True, False]


def test_infinite_rate_never_empties_a_bucket() -> None:
    bucket = TokenBucket(math.inf, size=1, now=0.0)
    assert all(bucket.take(0.0) for _ in range(10))
    assert bucket.is_full(0.0)


def test_one_key_has_one_bucket() -> None:
    buckets = TokenBuckets(per_second=1.0, size=2)
    assert [buckets.of("alice", 0.0).take(0.0) for _ in range(3)] == [True, True, False]
    assert buckets.of("bob", 0.0).take(0.0)
    assert [buckets.of("alice", 1.5).take(1.5) for _ in range(2)] == [False, False]


def test_full_buckets_are_discarded_by_later_look_ups() -> None:
    buckets = TokenBuckets(per_second=1.0, size=2)
    for number in range(1000):
        buckets.of(number, 0.0).take(0.0)
    assert len(buckets) == 1000
    for _ in range(500):
        buckets.of("other", 0.5)
    assert len(buckets) == 1001  # one token is missing in each
    for _ in range(501):
        buckets.of("other", 1.0)
    assert len(buckets) == 1


def test_steady_stream_of_new_keys_keeps_the_number_of_buckets_bounded() -> None:
    buckets = TokenBuckets(per_second=10.0, size=10)
    most = 0
    for number in range(20_000):
        now = number / 1000
        buckets.of(number, now).take(now)
        most = max(most, len(buckets))
    assert most <= 2 * 100 + 2  # a bucket is full again after 0.1 s


def test_held_bucket_is_kept() -> None:
    buckets = TokenBuckets(per_second=1.0, size=2)
    bucket = buckets.of("alice", 0.0)
    bucket.holders += 1
    for number in range(100):
        buckets.of(number, float(number))
    assert buckets.of("alice", 100.0) is bucket
    bucket.holders -= 1
    for number in range(100):
        buckets.of(number, 200.0)
    assert buckets.of("alice", 200.0) is not bucket


@pytest.mark.parametrize(
    ("client", "key"),
    [
        (("192.0.2.7", 4711), "192.0.2.7"),
        (["192.0.2.7", 4711], "192.0.2.7"),
        (("192.0.2.7:4711", 0), "192.0.2.7"),
        (("::ffff:192.0.2.7", 4711), "192.0.2.7"),
        (("64:ff9b::192.0.2.7", 4711), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 4711), "2001:db8:1:2::/64"),
        (("2001:0DB8:1:2::1", 4711), "2001:db8:1:2::/64"),
        (("[2001:db8:1:2::1]:4711", 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 4711), "fe80::/64"),
        (("x" * 1000, 0), "x" * 64),
        (("\0", 0), "\0"),
        (("", 0), None),
        (None, None),
    ],
)
def test_an_address_is_counted_as_one_ipv4_address_or_one_ipv6_network(
    client: object, key: str | None
) -> None:
    assert address_of({"client": client}) == key


def test_scope_without_a_client_has_no_address() -> None:
    assert address_of({}) is None


def test_a_long_host_of_a_proxy_is_not_kept() -> None:
    kept = key_of.cache_info().currsize
    host = "x" * 30_000
    assert address_of({"client": (host, 0)}) == host[:64]
    assert key_of.cache_info().currsize == kept


LIMITS = Limits(messages_per_second=1.0, message_burst=2)


def take(rates: MessageRates, user: str | None, address: str | None, times: int) -> list[bool]:
    """Connect, send messages at once and disconnect."""
    rate = rates.hold(LIMITS, user, address, now=0.0)
    assert rate is not None
    handled = [rate.take(0.0) for _ in range(times)]
    rates.release(rate)
    return handled


def test_reconnecting_user_has_the_same_bucket() -> None:
    rates = MessageRates(users_per_address=50.0)
    assert take(rates, "alice", "192.0.2.1", 3) == [True, True, False]
    assert take(rates, "alice", "192.0.2.2", 1) == [False]
    assert take(rates, "bob", "192.0.2.1", 1) == [True]
    assert take(rates, None, "192.0.2.1", 2) == [True, True]
    assert take(rates, None, "192.0.2.1", 2) == [True, True]


def test_an_address_has_a_multiple_of_the_rate_of_a_user() -> None:
    rates = MessageRates(users_per_address=3.0)
    handled = [take(rates, None, "192.0.2.1", 2) for _ in range(4)]
    assert handled == [[True, True]] * 3 + [[False, False]]
    assert take(rates, "alice", "192.0.2.1", 1) == [False]
    assert take(rates, "alice", "192.0.2.2", 1) == [True]
    assert take(rates, None, None, 2) == [True, True]


def test_messages_above_the_rate_of_a_user_cost_the_address_nothing() -> None:
    rates = MessageRates(users_per_address=2.0)
    assert take(rates, "alice", "192.0.2.1", 1000).count(True) == 2
    assert take(rates, "bob", "192.0.2.1", 2) == [True, True]


def test_routes_with_other_rates_have_other_buckets() -> None:
    rates = MessageRates(users_per_address=50.0)
    assert take(rates, "alice", None, 3) == [True, True, False]
    other = rates.hold(Limits(messages_per_second=5.0), "alice", None, now=0.0)
    assert other is not None
    assert other.take(0.0)
    assert rates.hold(Limits(messages_per_second=math.inf), "alice", None, now=0.0) is None


def test_a_connection_without_a_part_in_the_debt_is_not_closed() -> None:
    rates = MessageRates(users_per_address=50.0)
    limits = Limits(messages_per_second=1.0, message_burst=100)
    flood = rates.hold(limits, "alice", None, now=0.0)
    other = rates.hold(limits, "alice", None, now=0.0)
    assert flood is not None
    assert other is not None
    for _ in range(199):
        flood.take(0.0)
    assert not flood.exhausted
    flood.take(0.0)
    assert flood.exhausted
    for _ in range(REFUSALS_BEFORE_CLOSE - 1):
        assert not other.take(0.0)
        assert not other.exhausted
    other.take(0.0)
    assert other.exhausted


def test_buckets_of_ended_connections_are_discarded() -> None:
    rates = MessageRates(users_per_address=1.0)
    for number in range(100):
        take(rates, f"user {number}", f"192.0.2.{number}", 2)
    rate = rates.hold(LIMITS, "alice", "192.0.2.200", now=2.0)
    for _ in range(100):
        rates.hold(LIMITS, "alice", "192.0.2.200", now=2.0)
    assert [len(buckets) for buckets in (*rates.users.values(), *rates.addresses.values())] == [
        1,
        1,
    ]
    assert rate is not None
    assert rate.user.holders == 101
