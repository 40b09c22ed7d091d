"""The checks of the model test find each kind of violation in a record, and none in a correct one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from falcon_pachinko.history import Position

from .model import (
    Kind,
    Read,
    Received,
    Record,
    Sent,
    Stay,
    Subscription,
    Window,
    delivery_violations,
)
from .model_cluster import TIMING
from .model_presence import presence_violations

LATE = 100.0


def received(at: float, node: int, kind: Kind, name: str, user: str, offset: int) -> Received:
    return Received(at, node, "a", kind, name, user, Position("e", offset))


def correct_record() -> Record:
    """Make a record of ann, who comes and goes on node 0, bob, who stays on node 1, and a message."""
    record = Record(TIMING, live={0, 1})
    record.subscriptions = [Subscription(node, "a", 0.0) for node in (0, 1)]
    record.stays = [
        Stay(0, "a", "ann", "c0", called=1.0, entered=1.1, ended=4.0),
        Stay(1, "a", "bob", "c1", called=2.0, entered=2.1),
    ]
    record.sent = {"m": Sent("m", 1, "a", called=3.0, returned=3.1)}
    for node in (0, 1):
        record.received += [
            received(1.1, node, "joined", "c0", "ann", 1),
            received(2.1, node, "joined", "c1", "bob", 2),
            received(3.1, node, "message", "m", "", 3),
            received(4.1, node, "left", "c0", "ann", 4),
        ]
    record.reads = [
        Read(3.5, 3.6, 0, "a", ["ann", "bob"], outage=False),
        Read(LATE, LATE, 1, "a", ["bob"], outage=False),
    ]
    return record


def violations(record: Record) -> list[str]:
    return delivery_violations(record) + presence_violations(record)


def drop(kind: Kind) -> Callable[[Record], None]:
    """Return a function that removes a delivery of a kind on node 1."""

    def change(record: Record) -> None:
        found = [each for each in record.received if (each.node, each.kind) == (1, kind)]
        record.received.remove(found[-1])

    return change


def add(*events: Received) -> Callable[[Record], None]:
    """Return a function that adds deliveries."""
    return lambda record: record.received.extend(events)


def read(*users: str) -> Callable[[Record], None]:
    """Return a function that adds a list of users, read at the end."""
    return lambda record: record.reads.append(Read(LATE, LATE, 0, "a", [*users], outage=False))


def lose_history(record: Record) -> None:
    record.losses.append((5.0, 1, "a"))


def swap(record: Record) -> None:
    """Let node 1 deliver the message and bob's join in the other order."""
    record.received[5], record.received[6] = record.received[6], record.received[5]


def renumber(record: Record) -> None:
    """Let node 1 deliver another message at the position of the message."""
    record.received[6].name = "n"


def send_after_expiry(record: Record) -> None:
    """Let node 1 send a message after the end of its user's lease."""
    record.faults.append(Window(4.2, 1, 6.0))
    record.sent["n"] = Sent("n", 1, "a", called=5.0)
    record.received += [
        received(6.1, 0, "left", "c1", "bob", 5),
        received(6.2, 0, "message", "n", "", 6),
        received(6.3, 0, "joined", "c1", "bob", 7),
    ]


WRONG: dict[str, tuple[str, Callable[[Record], None]]] = {
    "a message is lost silently": ("P1: 'm' of node 1", drop("message")),
    "a node is notified of a loss that did not happen": ("P1: false alarm", lose_history),
    "a message is delivered twice": (
        "P1: 'm' was delivered 2 times",
        add(received(5.0, 1, "message", "m", "", 5)),
    ),
    "nodes deliver in different orders": ("came after offset", swap),
    "nodes number differently": ("P1: position e:3", renumber),
    "an expired node is not fenced": ("P3: 'n'", send_after_expiry),
    "a join is not announced": ("P2: 'bob' was 1 to 1 times", drop("joined")),
    "a leave is not announced": ("P2: 'ann' was 1 to 1 times", drop("left")),
    "a leave is announced twice": (
        "P2: left of 'ann' (c0) in room 'a' was delivered 2 times",
        add(received(5.0, 1, "left", "c0", "ann", 5)),
    ),
    "a user who stays is announced again": (
        "P7: joined of 'bob' (c1) in room 'a' was delivered 2 times",
        add(received(5.0, 1, "joined", "c1", "bob", 5)),
    ),
    "a user who stays is announced as gone": (
        "P2: node 1 delivered left of 'bob'",
        add(received(5.0, 1, "left", "c1", "bob", 5)),
    ),
    "a list has a user who is gone": ("P2: members('a') on node 0 has {'ann'}", read("ann", "bob")),
    "a list lacks a user": ("P2: members('a') on node 0 lacks {'bob'}", read()),
    "a list has a user twice": ("has duplicates", read("bob", "bob")),
}


def test_a_correct_record_has_no_violations() -> None:
    assert violations(correct_record()) == []


@pytest.mark.parametrize("name", WRONG)
def test_a_violation_is_found(name: str) -> None:
    expected, change = WRONG[name]
    record = correct_record()
    change(record)
    assert any(expected in each for each in violations(record)), violations(record)


def test_a_notified_loss_is_no_violation() -> None:
    record = correct_record()
    drop("message")(record)
    record.faults.append(Window(2.9, None, 2.9))
    record.data_loss = 2.9
    lose_history(record)
    assert violations(record) == []


def test_a_second_connection_is_announced_neither_when_it_joins_nor_when_it_leaves() -> None:
    record = correct_record()
    record.stays.append(Stay(0, "a", "bob", "c2", called=5.0, entered=5.1, ended=6.0))
    assert violations(record) == []
    record.received.append(received(5.1, 1, "joined", "c2", "bob", 5))
    record.received.append(received(6.1, 1, "left", "c2", "bob", 6))
    found = violations(record)
    assert any("P7: node 1 delivered joined of 'bob' (c2)" in each for each in found)
    assert any("P2: node 1 delivered left of 'bob' (c2)" in each for each in found)


def test_the_users_of_a_node_that_may_have_expired_may_leave_and_join_once() -> None:
    record = correct_record()
    record.faults.append(Window(5.0, 1, 7.0))
    for node in (0, 1):
        record.received.append(received(7.1, node, "left", "c1", "bob", 5))
        record.received.append(received(7.2, node, "joined", "c1", "bob", 6))
    assert violations(record) == []
    record.received.append(received(7.3, 0, "left", "c1", "bob", 7))
    record.received.append(received(7.4, 0, "joined", "c1", "bob", 8))
    assert len(violations(record)) == 1
