"""Entries of the map of restrictions: the later one wins, everywhere the same."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.restriction_entry import (
    BAN,
    MAX_RESTRICTION_SECONDS,
    SESSION,
    SESSIONS,
    UNKNOWN_REMOVAL_MS,
    RestrictionChange,
    RestrictionEntry,
    end_of,
)

times = st.integers(0, 2**50)
entries = st.builds(
    RestrictionEntry, st.just("ban\nbob\n"), st.integers(1, 4), times, times, st.integers(0, 2)
)


@given(entries)
def test_an_entry_is_decoded_from_its_name_and_value(entry: RestrictionEntry) -> None:
    assert RestrictionEntry.decode(entry.field, entry.value) == entry
    assert 0 <= entry.hash < 2**40


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ban\nbob", "1 2 3 4"),
        ("praise\nbob\n", "1 2 3 4"),
        ("ban\nbob\n", "1 2 3"),
        ("ban\nbob\n", "1 2 3 x"),
    ],
)
def test_what_is_not_an_entry_is_refused(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RestrictionEntry.decode(field, value)


@given(entries, entries)
def test_of_two_entries_one_replaces_the_other(
    one: RestrictionEntry, other: RestrictionEntry
) -> None:
    assert one.replaces(None)
    assert one.replaces(other) + other.replaces(one) == (one != other)
    if one.version > other.version:
        assert one.replaces(other)


def test_a_change_has_a_higher_version_even_if_the_clock_is_behind() -> None:
    ban = RestrictionChange(BAN, "bob", "", 9_000).apply(None, 1_000)
    assert ban == RestrictionEntry("ban\nbob\n", 1_000, 9_000, 9_000, 0)
    removed = RestrictionChange(BAN, "bob").apply(ban, 500)
    assert removed == RestrictionEntry("ban\nbob\n", 1_001, 0, 9_000, 0)
    assert removed.replaces(ban)


def test_a_shorter_ban_is_kept_as_long_as_the_longer_one_before() -> None:
    ban = RestrictionChange(BAN, "bob", "", 9_000).apply(None, 1_000)
    shorter = RestrictionChange(BAN, "bob", "", 3_000).apply(ban, 2_000)
    assert (shorter.until, shorter.kept_until) == (3_000, 9_000)


def test_the_removal_of_an_unknown_entry_is_kept_for_a_day() -> None:
    assert RestrictionChange(BAN, "bob").apply(None, 5).kept_until == 5 + UNKNOWN_REMOVAL_MS


@pytest.mark.parametrize("kind", [SESSION, SESSIONS])
def test_a_revocation_is_not_shortened(kind: str) -> None:
    long = RestrictionChange(kind, "bob", "", 9_000, 500).apply(None, 1_000)
    short = RestrictionChange(kind, "bob", "", 3_000, 700).apply(long, 2_000)
    assert (short.until, short.issued_until) == (9_000, 700)


@pytest.mark.parametrize(
    "seconds", [0, -1, math.inf, math.nan, "60", None, MAX_RESTRICTION_SECONDS * 1.01]
)
def test_a_duration_is_a_number_up_to_100_years(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"seconds is .*: it must be above zero"):
        end_of(seconds, 0.0)


def test_an_end_is_a_date_with_four_digits() -> None:
    now = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    until = end_of(MAX_RESTRICTION_SECONDS, now)
    assert datetime.fromtimestamp(until / 1000, UTC).year == 2200
    assert end_of(0.0001, 1.0) == 1_001
