"""When and after which delay a client connects again, as the vectors of both clients say."""

import random

from falcon_pachinko import close_codes
from falcon_pachinko.client.policy import announced_delay, is_terminal_code, retry_delay

from .simulation import VECTORS


def test_the_terminal_codes_are_exactly_those_of_the_vectors() -> None:
    ranges = VECTORS["terminalRanges"]
    for code in range(5_001):
        expected = any(first <= code <= last for first, last in ranges)
        assert is_terminal_code(code) is expected, code


def test_the_framework_closes_with_both_kinds() -> None:
    assert is_terminal_code(close_codes.SESSION_ENDED)
    assert is_terminal_code(close_codes.FORBIDDEN)
    for code in (close_codes.SERVICE_RESTART, close_codes.SLOW_READER, close_codes.INTERNAL_ERROR):
        assert not is_terminal_code(code)


def test_a_delay_is_a_random_fraction_of_a_bound_that_doubles_up_to_the_maximum() -> None:
    given = VECTORS["delays"]
    base, bound = given["baseDelayMs"] / 1_000, given["maxDelayMs"] / 1_000
    for fraction in (0.0, 0.25, 0.999):
        for failures, expected_ms in given["bounds"].items():
            delay = retry_delay(int(failures), base, bound, fraction)
            assert delay == fraction * expected_ms / 1_000, failures


def test_delays_cover_the_whole_range() -> None:
    chosen = random.Random(1)
    delays = [retry_delay(3, 0.1, 10.0, chosen.random()) for _ in range(2_000)]
    assert {int(delay / 0.08) for delay in delays} == set(range(10))


def test_only_a_server_that_stops_announces_a_delay() -> None:
    assert announced_delay(1012, "retry=1.7") == 1.7
    assert announced_delay(1012, "retry=0") == 0
    for code, reason in ((1011, "retry=2"), (1012, "retry=1e9"), (1012, "retry=2\n"), (1012, "")):
        assert announced_delay(code, reason) is None
