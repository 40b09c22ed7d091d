"""Room membership, checked against a plain model."""

from collections import defaultdict

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from falcon_pachinko.rooms.membership import Membership


class Person:
    pass


def empty_rooms() -> Membership[Person, str]:
    return Membership()


def test_room_names_are_case_sensitive() -> None:
    rooms = empty_rooms()
    rooms.join(Person(), "Room", "")
    assert rooms.members("room") == ()


def test_leave_returns_the_note_of_the_join() -> None:
    rooms = empty_rooms()
    person = Person()
    rooms.join(person, "room", "a note")
    assert rooms.has(person, "room")
    assert rooms.leave(person, "room") == "a note"
    assert not rooms.has(person, "room")
    with pytest.raises(KeyError):
        rooms.leave(person, "room")


class RoomsAgainstAModel(RuleBasedStateMachine):
    people = Bundle("people")

    def __init__(self) -> None:
        super().__init__()
        self.rooms = empty_rooms()
        self.model: dict[str, dict[Person, str]] = defaultdict(dict)

    @rule(target=people)
    def come(self) -> Person:
        return Person()

    @rule(person=people, room=st.sampled_from("abc"), note=st.text(max_size=1))
    def join(self, person: Person, room: str, note: str) -> None:
        self.rooms.join(person, room, note)
        self.model[room][person] = note

    @rule(person=people, room=st.sampled_from("abc"))
    def leave(self, person: Person, room: str) -> None:
        assert self.rooms.has(person, room) is (person in self.model[room])
        if person in self.model[room]:
            assert self.rooms.leave(person, room) == self.model[room].pop(person)

    @invariant()
    def agrees_with_the_model(self) -> None:
        for room in "abc":
            members = self.model[room]
            assert self.rooms.members(room) == tuple(members)
            assert tuple(self.rooms.members_by_room.get(room, ())) == tuple(members)
            for person, note in members.items():
                assert self.rooms.rooms_of(person)[room] == note

    @invariant()
    def keeps_nothing_of_empty_rooms(self) -> None:
        occupied = {room for room, members in self.model.items() if members}
        assert set(self.rooms.members_by_room) == occupied
        assert all(self.rooms.rooms_by_member.values())


TestRoomsAgainstAModel = RoomsAgainstAModel.TestCase
