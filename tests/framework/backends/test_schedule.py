"""A schedule at a fixed rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.schedule import Schedule


def test_the_first_tick_is_one_interval_after_the_start() -> None:
    schedule = Schedule(100.0)
    assert schedule.tick(100.0, 10) == 10
    assert schedule.tick(109.0, 10) == 1
    assert schedule.tick(110.0, 10) == 0
    assert schedule.tick(110.0, 10) == 10


def test_a_late_tick_does_not_shift_the_next_one() -> None:
    schedule = Schedule(0.0)
    assert schedule.tick(14.0, 10) == 0
    assert schedule.tick(14.0, 10) == 6


@pytest.mark.parametrize(("now", "wait_seconds"), [(20.0, 10), (35.0, 5), (1_000_003.0, 7)])
def test_one_tick_makes_up_for_all_that_were_missed(now: float, wait_seconds: float) -> None:
    schedule = Schedule(0.0)
    assert schedule.tick(now, 10) == 0
    assert schedule.tick(now, 10) == wait_seconds


def test_a_changed_interval_counts_from_the_last_tick() -> None:
    schedule = Schedule(0.0)
    assert schedule.tick(10.0, 10) == 0
    assert schedule.tick(12.0, 3) == 1
    assert schedule.tick(13.0, 3) == 0


@given(pauses=st.lists(st.integers(0, 50)), seconds=st.integers(1, 20))
def test_ticks_are_taken_once_per_interval_and_keep_the_rate(
    pauses: list[int], seconds: int
) -> None:
    schedule, now, taken = Schedule(0), 0, 0
    for pause in pauses:
        now += pause
        is_due = now // seconds > taken
        assert (schedule.tick(now, seconds) == 0) == is_due
        taken = now // seconds
        assert schedule.tick(now, seconds) == (taken + 1) * seconds - now
