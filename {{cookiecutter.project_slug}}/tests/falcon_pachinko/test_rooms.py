"""The bookkeeping of rooms, checked against a plain model."""

from collections import defaultdict

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from falcon_pachinko.errors import InvalidRoomName
from falcon_pachinko.rooms import Rooms, check_room_name


class Person:
    def __init__(self, user: str | None = None, visible: bool = True) -> None:
        self.user = user
        self.visible = visible


def empty_rooms() -> Rooms[Person, tuple[Person, ...]]:
    return Rooms(tuple)


@pytest.mark.parametrize("room", ["a", "Ä" * 100, "x" * 200, "with space", "{}", "ROOM", "💬"])
def test_a_room_name_may_be_any_visible_text(room: str) -> None:
    assert check_room_name(room) == room


@pytest.mark.parametrize(
    "room", ["", "x" * 201, "Ä" * 101, "a\nb", "\x00", "\x7f", "\x85", "\ud800", None, 5, b"a"]
)
def test_a_name_that_no_room_can_have_is_refused(room: str) -> None:
    with pytest.raises(InvalidRoomName, match="room name"):
        empty_rooms().join(Person(), room)


def test_a_refused_name_leaves_nothing_behind() -> None:
    rooms = empty_rooms()
    person = Person("Alice")
    with pytest.raises(InvalidRoomName):
        rooms.join(person, "")
    assert rooms.rooms_of(person) == []
    assert rooms.rooms_by_member == {}


def test_names_that_differ_in_case_are_two_rooms() -> None:
    rooms = empty_rooms()
    rooms.join(Person(), "Room")
    assert rooms.members("room") == ()


def test_join_and_leave_tell_the_first_and_the_last_connection_of_a_user() -> None:
    rooms = empty_rooms()
    one, two = Person("Alice"), Person("Alice")
    assert rooms.join(one, "room") is True
    assert rooms.join(two, "room") is False
    assert rooms.join(one, "room") is False
    assert rooms.leave(one, "room") is False
    assert rooms.leave(two, "room") is True
    assert rooms.leave(two, "room") is False


def test_a_user_who_changes_between_join_and_leave_is_still_counted_right() -> None:
    rooms = empty_rooms()
    person = Person("Alice")
    rooms.join(person, "room")
    person.user = "Bob"
    assert rooms.users("room") == ["Alice"]
    assert rooms.leave(person, "room") is True
    assert rooms.members_by_user == {}


def test_a_member_that_is_not_visible_hears_but_is_not_seen() -> None:
    rooms = empty_rooms()
    newcomer = Person("Alice", visible=False)
    rooms.join(newcomer, "room")
    assert rooms.members("room") == (newcomer,)
    assert rooms.users("room") == []
    assert rooms.with_prefix("") == []


class RoomsAgainstAModel(RuleBasedStateMachine):
    people = Bundle("people")

    def __init__(self) -> None:
        super().__init__()
        self.rooms = empty_rooms()
        self.model: dict[str, list[Person]] = defaultdict(list)

    @rule(target=people, user=st.sampled_from([None, "Alice", "Bob"]), visible=st.booleans())
    def come(self, user: str | None, visible: bool) -> Person:
        return Person(user, visible)

    def visible_others(self, person: Person, room: str) -> list[Person]:
        of_user = [m for m in self.model[room] if m.user == person.user is not None]
        return [m for m in of_user if m.visible and m is not person]

    @rule(person=people)
    def become_visible(self, person: Person) -> None:
        person.visible = True

    @rule(person=people, room=st.sampled_from("abc"))
    def join(self, person: Person, room: str) -> None:
        expected = person not in self.model[room] and not self.visible_others(person, room)
        assert self.rooms.join(person, room) is expected
        if person not in self.model[room]:
            self.model[room].append(person)

    @rule(person=people, room=st.sampled_from("abc"))
    def leave(self, person: Person, room: str) -> None:
        was_member = person in self.model[room]
        if was_member:
            self.model[room].remove(person)
        expected = was_member and person.visible and not self.visible_others(person, room)
        assert self.rooms.leave(person, room) is expected

    @rule(person=people)
    def leave_all(self, person: Person) -> None:
        self.rooms.leave_all(person)
        for members in self.model.values():
            if person in members:
                members.remove(person)

    @invariant()
    def agrees_with_the_model(self) -> None:
        for room in "abc":
            members = self.model[room]
            assert list(self.rooms.members(room)) == members
            assert (self.rooms.audience(room) or ()) == tuple(members)
            visible = [m.user for m in members if m.visible and m.user is not None]
            assert self.rooms.users(room) == list(dict.fromkeys(visible))
        seen = [room for room in "abc" if any(m.visible for m in self.model[room])]
        assert self.rooms.with_prefix("") == seen

    @invariant()
    def keeps_nothing_of_empty_rooms(self) -> None:
        occupied = {room for room, members in self.model.items() if members}
        assert set(self.rooms.members_by_room) == occupied
        assert set(self.rooms.audiences) <= occupied
        assert {room for room, _ in self.rooms.members_by_user} <= occupied
        assert all(self.rooms.rooms_by_member.values())


TestRoomsAgainstAModel = RoomsAgainstAModel.TestCase
