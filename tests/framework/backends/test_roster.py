"""The users of a room in memory: their order, their pages, and the changes for a batch."""

import sys
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from falcon_pachinko.backends.roster import BLOCK, PresenceChanges, Roster, payload_of
from falcon_pachinko.presence import MemberPage, PresenceBatch, ServerPresenceChanged


def filled(count: int) -> Roster:
    """Return a roster with the users "1", "2" and so on."""
    roster = Roster()
    for number in range(1, count + 1):
        roster.add(f"u{number}", str(number))
    return roster


def read(roster: Roster, limit: int, between: Callable[[MemberPage], None]) -> list[str]:
    """Read all pages, with a call after each one that another one follows."""
    found: list[str] = []
    cursor: int | None = 0
    while cursor is not None:
        page = roster.page(cursor, limit)
        found += page
        cursor = page.cursor
        between(page)
    return found


def count_calls(action: Callable[[], object]) -> int:
    """Count the calls, of C functions too, that an action makes."""
    calls = 0

    def on_event(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(on_event)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def test_a_page_is_followed_by_the_next_users() -> None:
    roster = filled(5)
    first = roster.page(limit=2)
    assert (first, first.total, first.cursor) == (["1", "2"], 5, 2)
    assert roster.page(2, 2) == ["3", "4"]
    assert roster.page(4, 2) == ["5"]
    assert roster.page(4, 2).cursor is None


def test_the_last_page_has_no_cursor_even_if_it_is_full() -> None:
    assert filled(4).page(2, 2).cursor is None


def test_an_empty_roster_has_one_empty_page() -> None:
    page = Roster().page(limit=3)
    assert (page, page.total, page.cursor) == ([], 0, None)
    assert Roster().page(10**30) == []


def test_connections_without_a_user_are_on_no_page() -> None:
    roster = filled(2)
    roster.add("cc1", None)
    roster.add("u3", "3")
    assert roster.page() == ["1", "2", "3"]
    assert roster.page(limit=2).cursor == 2
    assert len(roster.entries) == 4
    roster.remove("cc1")
    assert roster.page().total == 3


def test_users_that_leave_between_pages_hide_no_other_user() -> None:
    users = 3 * BLOCK
    roster = filled(users)

    def remove_the_page(page: MemberPage) -> None:
        for user in page:
            roster.remove(f"u{user}")

    assert read(roster, 100, remove_the_page) == [str(n) for n in range(1, users + 1)]


def test_a_user_that_leaves_and_returns_between_pages_is_last() -> None:
    roster = filled(6)

    def return_once(page: MemberPage) -> None:
        if page == ["1", "2"]:
            roster.remove("u2")
            roster.add("u2", "2")

    assert read(roster, 2, return_once) == ["1", "2", "3", "4", "5", "6", "2"]


def test_a_large_roster_costs_as_many_calls_as_a_small_one() -> None:
    def cost(roster: Roster) -> int:
        def change() -> None:
            roster.add("unew", "new")
            middle = roster.last_number // 2
            roster.page(middle, 20)
            roster.page(limit=20)
            roster.remove(f"u{middle}")

        return count_calls(change)

    small, large = filled(300), filled(100_000)
    assert cost(large) <= cost(small) + 40  # a few more steps of the binary search


def test_users_that_have_left_do_not_slow_down_the_first_page() -> None:
    roster = filled(20_000)
    for number in range(1, 19_000):
        roster.remove(f"u{number}")
    small = filled(30)
    calls = count_calls(lambda: roster.page(limit=20))
    assert calls <= count_calls(lambda: small.page(limit=20)) + 5


class RosterAgainstAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.model: dict[str, int] = {}

    @rule(count=st.integers(1, BLOCK))
    def add(self, count: int) -> None:
        for _ in range(count):
            user = str(self.roster.last_number)
            self.model[user] = self.roster.add(f"u{user}", user).number

    @rule(start=st.integers(0, 3000), count=st.integers(1, BLOCK))
    def remove(self, start: int, count: int) -> None:
        for user in list(self.model)[start : start + count]:
            assert self.roster.remove(f"u{user}").number == self.model.pop(user)

    @rule(after=st.integers(0, 5000), limit=st.none() | st.integers(1, 2 * BLOCK))
    def read_page(self, after: int, limit: int | None) -> None:
        rest = [(number, user) for user, number in self.model.items() if number > after]
        page = self.roster.page(after, limit)
        expected = rest[:limit]
        assert page == [user for _, user in expected]
        assert page.total == len(self.model)
        assert page.cursor == (expected[-1][0] if len(rest) > len(expected) else None)

    @invariant()
    def no_block_is_empty_or_too_large(self) -> None:
        assert all(1 <= len(block) <= BLOCK for block in self.roster.blocks)


TestRosterAgainstAModel = RosterAgainstAModel.TestCase
TestRosterAgainstAModel.settings = settings(max_examples=20, stateful_step_count=30)


@pytest.fixture
def roster() -> Roster:
    """A roster of four users."""
    return filled(4)


@pytest.fixture
def changes() -> PresenceChanges:
    return PresenceChanges(PresenceBatch(above=3))


def users_of(*names: str) -> list[dict[str, str]]:
    """Return the payloads of users without join and leave messages."""
    return [{"user": name} for name in names]


def taken(changes: PresenceChanges, roster: Roster) -> ServerPresenceChanged:
    """Return the message of a batch as a client decodes it."""
    message = changes.take_message(roster)
    assert message is not None
    return msgspec.json.decode(msgspec.json.encode(message), type=ServerPresenceChanged)


def test_the_payload_of_a_user_is_that_of_the_message_if_it_is_an_object() -> None:
    cases = {
        b'{"type":"joined","payload":{"user":"A","userId":"1"}}': {"user": "A", "userId": "1"},
        b'{"payload": {"a": 1}, "type": "x"}': {"a": 1},
        b'{"type":"joined","payload":"Alice"}': {"user": "1"},
        b'{"type":"joined"}': {"user": "1"},
        b"Alice has joined": {"user": "1"},
        b"\xff": {"user": "1"},
        b"": {"user": "1"},
    }
    for data, payload in cases.items():
        assert msgspec.json.decode(payload_of(data, "1")) == payload, data


def test_the_message_lists_the_net_difference(roster: Roster, changes: PresenceChanges) -> None:
    roster.add("u5", "5")
    changes.joined["u5"] = None
    assert changes.leave("u1")
    assert "u1" in roster.entries
    message = taken(changes, roster)
    assert message == ServerPresenceChanged(joined=users_of("5"), left=users_of("1"), count=4)
    assert "u1" not in roster.entries


def test_a_user_that_joins_and_leaves_is_not_announced(
    roster: Roster, changes: PresenceChanges
) -> None:
    changes.joined["u4"] = None
    assert not changes.leave("u4")


def test_a_user_on_a_page_meanwhile_leaves_with_the_message(
    roster: Roster, changes: PresenceChanges
) -> None:
    changes.joined["u4"] = None
    changes.on_page(roster.page())
    assert changes.leave("u4")
    message = taken(changes, roster)
    assert message == ServerPresenceChanged(
        joined=[], left=users_of("4"), count=3, users=users_of("1", "2", "3")
    )


def test_nothing_is_sent_without_a_difference_unless_the_number_was_read(
    roster: Roster, changes: PresenceChanges
) -> None:
    assert changes.take_message(roster) is None
    changes.was_counted = True
    assert taken(changes, roster) == ServerPresenceChanged(joined=[], left=[], count=4)


def test_longer_lists_are_truncated_and_the_users_sent(changes: PresenceChanges) -> None:
    roster = filled(20)
    for number in range(1, 6):
        changes.leave(f"u{number}")
    for number in range(17, 21):
        changes.joined[f"u{number}"] = None
    message = taken(changes, roster)
    assert message == ServerPresenceChanged(
        joined=users_of("17", "18", "19"),
        left=users_of("1", "2", "3"),
        count=15,
        more_joined=1,
        more_left=2,
        users=users_of("6", "7", "8"),
    )


def test_a_room_that_is_no_longer_large_gets_all_users(
    roster: Roster, changes: PresenceChanges
) -> None:
    changes.leave("u2")
    message = taken(changes, roster)
    assert message is not None
    assert message.users == users_of("1", "3", "4")
    assert message.more_left is msgspec.UNSET
