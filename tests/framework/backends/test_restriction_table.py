"""The restrictions that a process knows: checks, the digest, the end of entries."""

import time
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.backends.restriction_entry import (
    BAN,
    CLOCK_MARGIN_MS,
    MUTE,
    SESSION,
    SESSIONS,
    Restriction,
    RestrictionChange,
    RestrictionEntry,
)
from falcon_pachinko.backends.restriction_table import RestrictionTable, listed


def put(table: RestrictionTable, kind: str, subject: str, room: str = "", seconds: int = 60) -> int:
    """Add an entry and return its end."""
    until = table.now + seconds * 1_000
    change = RestrictionChange(kind, subject, room, until, table.now)
    assert table.put(table.change(change))
    return until


entries = st.builds(
    RestrictionEntry,
    st.sampled_from(["ban\na\n", "ban\nb\n", "mute\na\nroom"]),
    st.integers(1, 3),
    *[st.integers(0, 3)] * 3,
)


@given(st.lists(entries), st.randoms())
def test_tables_agree_after_the_same_entries_in_any_order(
    found: list[RestrictionEntry], random: Random
) -> None:
    one, other = RestrictionTable(), RestrictionTable()
    for entry in found:
        one.put(entry)
    random.shuffle(found)
    for entry in found:
        other.put(entry)
    assert one.entries == other.entries
    assert one.digest == other.digest == sum(entry.hash for entry in one.entries.values())
    assert bool(one) == bool(found)


def test_a_ban_is_from_one_room_or_from_all() -> None:
    table = RestrictionTable()
    until = put(table, BAN, "bob", "lobby")
    assert table.banned_until("bob", "lobby") == until / 1000
    assert not table.banned_until("bob")
    assert not table.banned_until("bob", "other")
    assert not table.banned_until("eve", "lobby")
    assert not table.banned_until(None)


def test_a_mute_is_in_one_room_or_in_all() -> None:
    table = RestrictionTable()
    until = put(table, MUTE, "bob", "lobby")
    assert not table.muted_until("bob")
    assert table.muted_until("bob", ["other", "lobby"]) == until / 1000
    longer = put(table, MUTE, "bob", "", 90)
    assert table.muted_until("bob", ["lobby"]) == longer / 1000


def test_sessions_are_revoked_by_id_or_by_user_and_time() -> None:
    table = RestrictionTable()
    put(table, SESSION, "s1")
    put(table, SESSIONS, "bob")
    assert table.is_revoked("s1", None, 0.0)
    assert not table.is_revoked("s2", None, 0.0)
    assert table.is_revoked(None, "bob", time.time() - 1)
    assert not table.is_revoked(None, "bob", time.time() + 1)
    assert not table.is_revoked(None, "eve", 0.0)


def test_nobody_is_not_the_user_named_none() -> None:
    table = RestrictionTable()
    for kind in (BAN, MUTE, SESSION, SESSIONS):
        put(table, kind, "None")
    assert table.banned_until("None")
    assert not table.banned_until(None)
    assert table.muted_until("None")
    assert not table.muted_until(None)
    assert table.is_revoked("None", None, 0.0)
    assert not table.is_revoked(None, None, 0.0)
    assert table.is_revoked(None, "None", 0.0)


def test_an_entry_ends_by_the_clock_and_is_purged_later() -> None:
    table = RestrictionTable()
    now = table.now
    over = RestrictionEntry("ban\nbob\n", 1, now - 1, now - 1, 0)
    table.put(over)
    assert not table.banned_until("bob")
    assert table.list() == []
    assert table.purge() == []
    old = RestrictionEntry("ban\neve\n", 1, 0, now - CLOCK_MARGIN_MS, 0)
    table.put(old)
    put(table, BAN, "amy")
    assert table.purge() == [old]
    assert table.purge() == []
    assert table.digest == sum(entry.hash for entry in table.entries.values())
    assert len(table.entries) == 2


def test_the_list_has_the_bans_and_mutes_in_force() -> None:
    table = RestrictionTable()
    eve, bob = put(table, BAN, "eve"), put(table, MUTE, "bob", "lobby")
    put(table, SESSION, "s1")
    put(table, BAN, "amy")
    table.put(table.change(RestrictionChange(BAN, "amy")))
    assert table.list() == [
        Restriction("mute", "bob", "lobby", bob / 1000),
        Restriction("ban", "eve", None, eve / 1000),
    ]
    assert listed([]) == []
