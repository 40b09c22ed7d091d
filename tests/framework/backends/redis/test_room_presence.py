"""What a node knows of its connections in a room, and the slices of its list."""

from hypothesis import given, settings
from hypothesis import strategies as st

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis.room_presence import Ending, Leaving, RoomPresence
from falcon_pachinko.backends.redis.script import ENTRIES_PER_SLICE


def state_of(*connections: Presence) -> RoomPresence:
    state = RoomPresence()
    state.connections = {presence.connection: presence for presence in connections}
    return state


def test_the_digest_is_that_of_all_connections_in_any_order() -> None:
    one, two = Presence("c1", "alice"), Presence("c2", None)
    assert RoomPresence().digest == 0
    assert state_of(one, two).digest == state_of(two, one).digest == one.hash + two.hash


def test_the_only_connection_of_a_user_is_known() -> None:
    one, two, other = Presence("c1", "alice"), Presence("c2", "alice"), Presence("c3", "bob")
    assert state_of(one, other).is_only(one)
    assert not state_of(one, two).is_only(one)
    assert state_of(other).is_only(one)


def test_a_room_is_in_use_until_leaves_are_confirmed_and_grace_periods_are_over() -> None:
    state, alice = RoomPresence(), Presence("c1", "alice")
    assert state.is_empty
    state.leaving["c1"] = Leaving(alice, grace=True)
    assert not state.is_empty
    assert state.find("c1") is alice
    state.leaving.clear()
    state.ending["ualice"] = Ending(alice, 1.0)
    assert not state.is_empty
    assert state.find("c1") is None


def test_the_last_operation_of_a_node_in_a_room_is_known() -> None:
    state, alice = RoomPresence(), Presence("c1", "alice")
    assert state.is_ending
    state.ending = {"ualice": Ending(alice, 1.0), "ubob": Ending(alice, 1.0)}
    state.expiring.add("ualice")
    assert not state.is_ending
    state.expiring.add("ubob")
    assert state.is_ending
    state.connections["c1"] = alice
    assert not state.is_ending


def test_an_empty_list_is_one_slice_of_all_keys() -> None:
    assert list(RoomPresence().slices()) == [("", "", [])]


def test_a_slice_has_connections_leaves_and_grace_periods() -> None:
    one, two, three = Presence("c1", "alice"), Presence("c2", "alice"), Presence("c3", "bob")
    state = state_of(one)
    state.leaving["c2"] = Leaving(two, grace=False)
    state.ending["ubob"] = Ending(three, 1.0)
    items = [["ualice", "c1", one.hash, 0, "c2", two.hash, 0], ["ubob"]]
    assert list(state.slices()) == [("", "", items)]


@settings(deadline=None)
@given(st.sets(st.text(max_size=4), max_size=3 * ENTRIES_PER_SLICE))
def test_slices_cover_all_keys_in_the_order_of_redis(users: set[str]) -> None:
    state = state_of(*(Presence(f"c{number}", user) for number, user in enumerate(users)))
    slices = list(state.slices())
    assert slices[0].after == slices[-1].up_to == ""
    assert [part.up_to for part in slices[:-1]] == [part.after for part in slices[1:]]
    keys = [str(item[0]) for part in slices for item in part.items]
    assert keys == sorted((f"u{user}" for user in users), key=str.encode)
    for part in slices:
        assert len(part.items) <= ENTRIES_PER_SLICE
        assert part.up_to in ("", part.items[-1][0] if part.items else "")
