"""The membership of a connection, and pages of stored keys."""

import pytest

from falcon_pachinko.backends.presence import Presence, page_of

from ..support.backends import text

# Keys with their places: two users and a connection without one share a place.
NUMBERED = [(1, "ualice"), (2, "cc1"), (2, "ubob"), (2, "ucara"), (5, "udora")]


def test_a_presence_without_a_user_has_the_key_of_its_connection() -> None:
    presences = [Presence("c1", "alice"), Presence("c2", None), Presence("c3", "cara")]
    assert [presence.key for presence in presences] == ["ualice", "cc2", "ucara"]


def test_a_presence_has_messages_if_it_has_one_of_them() -> None:
    assert Presence("c1", "alice", text("joined")).has_messages
    assert Presence("c1", "alice", None, text("left")).has_messages
    assert not Presence("c1", "alice").has_messages


def test_a_page_counts_users_only() -> None:
    page = page_of("room", NUMBERED, None, None)
    assert page == ["alice", "bob", "cara", "dora"]
    assert (page.total, page.cursor) == (4, None)


def test_users_in_one_place_are_on_one_page() -> None:
    first = page_of("room", NUMBERED, None, 2)
    assert (first, first.cursor) == (["alice", "bob", "cara"], 2)
    assert page_of("room", NUMBERED, first.cursor, 2) == ["dora"]


def test_a_page_begins_after_a_user() -> None:
    assert page_of("room", NUMBERED, "cara", None) == ["dora"]
    with pytest.raises(LookupError, match="'c1' is not in room 'room'"):
        page_of("room", NUMBERED, "c1", None)
