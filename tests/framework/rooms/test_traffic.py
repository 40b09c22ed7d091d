"""What connections have been sent, counted once per room."""

from typing import Any, cast

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.connection.connection import Connection
from falcon_pachinko.connection.counts import Sent
from falcon_pachinko.connection.state import OPEN
from falcon_pachinko.publication import Publication
from falcon_pachinko.rooms.membership import Membership
from falcon_pachinko.rooms.traffic import Traffic, count_direct

HELLO = Publication({"text": "hello"})
SIZE = HELLO.size_bytes


class CountingSent(Sent):
    counts_groups = True


class Member:
    """A connection with an outbox that counts, or does not count, the messages of a group."""

    def __init__(self, outbox: Sent | None = None) -> None:
        self._outbox = outbox or Sent()
        self._carrier = self
        self.visible = True
        self.state = OPEN


class World:
    """One room."""

    def __init__(self) -> None:
        self.members: Membership[Any, Any] = Membership()
        synced = cast(Membership[Connection, Presence], self.members)
        self.traffic = Traffic(synced, lambda member: cast(Any, member).visible)

    def join(self, member: Any) -> None:
        self.members.join(member, "hall", None)
        self.traffic.enter(member, "hall")

    def leave(self, member: Any) -> None:
        self.traffic.end(member)
        self.members.leave(member, "hall")

    def send(self, *excluded: Any) -> None:
        room = self.traffic.rooms["hall"]
        room.sent += 1
        room.sent_bytes += SIZE
        self.traffic.exclude("hall", HELLO, excluded)


def test_a_member_is_counted_from_its_entry_to_its_end() -> None:
    world, alice, bob = World(), Member(), Member()
    world.join(alice)
    world.send()
    world.join(bob)
    world.send()
    world.leave(alice)
    world.send()
    world.leave(bob)
    assert (alice._outbox.sent, alice._outbox.sent_bytes) == (2, 2 * SIZE)
    assert (bob._outbox.sent, bob._outbox.sent_bytes) == (2, 2 * SIZE)


def test_an_excluded_member_is_not_counted_even_if_it_is_named_twice() -> None:
    world, alice, guest = World(), Member(), Member()
    world.join(alice)
    world.send(alice, alice, guest)
    world.send()
    world.leave(alice)
    assert (alice._outbox.sent, guest._outbox.sent) == (1, 0)


def test_a_connection_that_gets_no_live_messages_is_not_counted() -> None:
    world, alice = World(), Member()
    alice.visible = False
    world.join(alice)
    world.send()
    world.leave(alice)
    assert alice._outbox.sent == 0


def test_an_outbox_that_counts_its_messages_is_left_alone() -> None:
    world, alice = World(), Member(CountingSent())
    world.join(alice)
    world.send()
    world.leave(alice)
    count_direct(HELLO, cast(Any, [alice]), [])
    assert alice._outbox.sent == 0


def test_direct_messages_are_counted_for_those_who_get_them() -> None:
    alice, bob = Member(), Member()
    count_direct(HELLO, cast(Any, [alice, bob]), cast(Any, [bob]))
    assert (alice._outbox.sent, alice._outbox.sent_bytes) == (1, SIZE)
    assert bob._outbox.sent == 0
