"""The invariants accept correct records and find each planted violation."""

import dataclasses
from collections.abc import Sequence

import pytest

from .chaos_program import DISCONNECTED_CODE
from .deliveries import OTHER_SERVICE
from .edges import wrong_members
from .events import Closed, Event, Left, Listed, Opened, Page, Positioned, Received
from .invariants import check
from .record import Command, InjectedFault, Publish, Record
from .views import PageView, wrong_views

EPOCH = "0123456789abcdef"
ROOM = "room-1"


def message(
    offset: int, key: str = "", sender: str = "outside", exclude: str = "", **more: object
) -> Received:
    payload = {
        "key": key or f"key {offset}",
        "room": ROOM,
        "sender": sender,
        "user": sender.rpartition("/")[0],
        "exclude": exclude,
    }
    return Received(float(offset), "message", payload | more, EPOCH, offset)


def edge(kind: str, offset: int, user: str = "Carol") -> Received:
    return Received(float(offset), kind, {"room": ROOM, "user": user}, EPOCH, offset)


def listed(offset: int, *users: str, at: float | None = None, partial: bool = False) -> Listed:
    at = float(offset) if at is None else at
    return Listed(at, ROOM, users, EPOCH, offset, partial)


def page(user: str, *events: Event, number: int = 1) -> Page:
    """Create a page that connected at 0 and received the position 0."""
    begin = (Opened(0.0, 0), Positioned(0.0, EPOCH, 0))
    return Page(f"{user}/{number}", user, (ROOM,), [*begin, *events])


def reconnection(
    at: float, since: int, offset: int, recovered: bool | None, *missed: Received
) -> list[Event]:
    """Return the events of a page that loses its connection and reconnects."""
    return [
        Closed(at, 1006),
        Opened(at, 1, {EPOCH: since}),
        *missed,
        Positioned(at, EPOCH, offset, recovered),
    ]


def publish(
    key: str,
    started_at: float,
    ended_at: float,
    outcome: str = "accepted",
    sender: str = "outside",
    exclude: str = "",
) -> Publish:
    user = sender.rpartition("/")[0]
    return Publish(key, ROOM, sender, user, exclude, False, started_at, ended_at, outcome)


def violations(
    *pages: Page,
    faults: Sequence[InjectedFault] = (),
    publishes: Sequence[Publish] = (),
    commands: Sequence[Command] = (),
    checkpoints: Sequence[float] = (),
) -> list[str]:
    """Return descriptions of all violations."""
    lists = (list(publishes), list(faults), list(commands), list(checkpoints))
    record = Record(list(pages), *lists)
    return [f"{violation.invariant} {violation.sentence}" for violation in check(record)]


def test_a_correct_record_has_no_violations() -> None:
    own = message(2, sender="Alice/1", exclude="self")
    others = message(3, sender="Bob/1", exclude="user")
    alice = page(
        "Alice",
        message(1),
        *reconnection(1.5, 1, 3, True, others),
        message(4),
        message(4),
        Closed(5.0, 1000),
    )
    assert (
        violations(
            alice,
            page("Bob", message(1), own, message(4)),
            page("Bob", message(1), own, number=2),
            page("Carol", message(1), own, others, message(4)),
            publishes=[
                publish("key 1", 0.5, 0.9),
                publish("key 2", 1.2, 1.9, sender="Alice/1", exclude="self"),
                publish("lost", 2.0, 2.1, "refused"),
                publish("key 4", 3.5, 4.0),
            ],
        )
        == []
    )


def test_messages_without_a_guarantee_may_be_missing() -> None:
    missed = [message(offset) for offset in range(1, 200)]
    alice = page("Alice", *reconnection(0.5, 0, 150, False), *missed[150:])
    bob = page("Bob", *missed)
    left = page("Carol", Left(1.0), message(3))
    assert violations(alice, bob, left) == []


def test_an_ephemeral_message_may_arrive_once_on_each_connection() -> None:
    typing = Received(1.0, "typing", {"key": "once"})
    assert violations(page("Alice", typing, *reconnection(2.0, 0, 0, True, typing))) == []


def test_a_list_of_the_next_epoch_contains_the_joins_and_leaves_of_the_last_one() -> None:
    bob = page("Bob", edge("joined", 1), message(2))
    new = Listed(2.0, ROOM, (), "f" * 16, 0)
    old, following = Positioned(2.0, EPOCH, 0), Positioned(2.0, "f" * 16, 0, False)
    faults = [InjectedFault("flush all", None, 1.9, 2.0, loses_data=True)]
    alice = Page("Alice/1", "Alice", (ROOM,), [Opened(1.9, 0), new, old, message(2), following])
    assert violations(alice, bob, faults=faults) == []
    alice.events[1:3] = [old, new]
    assert any("but not [1]" in found for found in violations(alice, bob, faults=faults))


def test_messages_that_exceed_the_bytes_of_a_history_need_not_be_recovered() -> None:
    alice = page("Alice", message(1), *reconnection(4.0, 1, 3, False))
    large = publish("large", 2.0, 2.1, "cut off")
    assert len(violations(alice, publishes=[large])) == 1
    filled = dataclasses.replace(large, filler_bytes=1024 * 1024)
    assert violations(alice, publishes=[filled]) == []


@pytest.mark.parametrize(
    ("pages", "sentence"),
    [
        (
            [
                page("Alice", message(1), message(3)),
                page("Bob", message(1), message(2), message(3)),
            ],
            "I1 Alice/1 has 0123456789abcdef from 0 to 3 but not [2] although Bob/1 received",
        ),
        (
            [
                page("Alice", message(1), *reconnection(2.0, 1, 3, True)),
                page("Bob", message(1), message(2), message(3)),
            ],
            "I1 Alice/1 has 0123456789abcdef from 0 to 3 but not [2, 3] although Bob/1 received",
        ),
        (
            [page("Alice", message(1), message(3), message(2))],
            "received 0123456789abcdef:2 after 3: an inversion",
        ),
        ([page("Alice", message(1, "once"), message(2, "once"))], "I1 Alice/1 received once twice"),
        (
            [page("Alice", *[Received(1.0, "typing", {"key": "once"}, "", 0) for _ in range(2)])],
            "I1 Alice/1 received once twice",
        ),
        (
            [page("Alice", message(1, "one")), page("Bob", message(1, "other"))],
            "is one message for Alice/1, another for Bob/1",
        ),
        (
            [page("Alice", message(1)), page("Bob", message(2, room="room-2"))],
            "I1 the epoch 0123456789abcdef belongs to two rooms",
        ),
        (
            [page("Alice", message(1, sender="Alice/1", exclude="self"))],
            "I1 Alice/1 received a message from which it is excluded",
        ),
        (
            [page("Alice", message(1, sender="Alice/1", exclude="user"), number=2)],
            "I1 Alice/2 received a message from which it is excluded",
        ),
        (
            [page("Alice", Received(1.0, "message", message(1).payload, "f" * 16, 1))],
            "before a position of that epoch",
        ),
        (
            [page("Alice", Received(1.0, "left", {"room": ROOM, "user": "Bob"}))],
            "received left without",
        ),
        (
            [page("Alice", message(3), *reconnection(4.0, 3, 2, True))],
            "went back to 0123456789abcdef:2",
        ),
        (
            [page("Alice", Positioned(1.0, "f" * 16, 1, True))],
            "recovered ffffffffffffffff:1, an unknown epoch",
        ),
        (
            [page("Alice", message(3), *reconnection(4.0, 3, 9, None))],
            "got 0123456789abcdef:9 without the field recovered",
        ),
        (
            [page("Alice", message(3), *reconnection(4.0, 3, 9, False))],
            "did not recover the 6 messages up to 0123456789abcdef:9 after only 1.0 s",
        ),
        (
            [page("Alice", listed(0), edge("joined", 1), edge("joined", 2))],
            "P4 Alice/1 received joined of Carol, who is already in its view",
        ),
        (
            [page("Alice", listed(0, "Carol"), edge("left", 1), message(2), edge("left", 3))],
            "P4 Alice/1 received left of Carol, who is not in its view",
        ),
        (
            [page("Alice", edge("joined", 30)), page("Carol")],
            "P7 Carol, who has stayed in room-1, joined it at",
        ),
        (
            [page("Alice", edge("left", 30)), page("Carol")],
            "P2 Carol, who has stayed in room-1, left it at",
        ),
        (
            [page("Alice", edge("left", 3)), page("Carol", *reconnection(2.0, 0, 0, True))],
            "I2 Carol left room-1 1 times, but can have left only 0 times",
        ),
        (
            [page("Alice", message(1, sender=OTHER_SERVICE))],
            "I1 Alice/1 received a message of another service",
        ),
        ([page("Alice", Closed(1.0, 1011))], "I0 a connection of Alice/1 was closed with 1011"),
        ([page("Alice", Closed(1.0, 1013))], "I0 a connection of Alice/1 was closed with 1013"),
        (
            [page("Alice", Received(1.0, "serverError", {"code": "invalidPayload"}))],
            "I0 Alice/1 received the error {'code': 'invalidPayload'}",
        ),
    ],
    ids=[
        "gap",
        "gap in recovery",
        "inversion",
        "said once, numbered twice",
        "double without a position",
        "two orders",
        "two rooms",
        "own message",
        "own user's message",
        "unknown epoch",
        "no position",
        "back",
        "recovered nothing",
        "not told",
        "not recovered",
        "came twice",
        "went twice",
        "came again",
        "went without going",
        "has not gone",
        "another service",
        "crash",
        "refusal without a fault",
        "unexpected error",
    ],
)
def test_a_planted_violation_is_found(pages: list[Page], sentence: str) -> None:
    found = violations(*pages)
    assert any(sentence in violation for violation in found), found


def test_a_new_epoch_requires_a_data_loss_of_redis() -> None:
    new = Positioned(2.0, "f" * 16, 0, False)
    assert (
        "room-1 began the epoch ffffffffffffffff" in violations(page("Alice", message(1), new))[0]
    )
    emptied = InjectedFault("restart redis", None, 1.2, 1.8, loses_data=True)
    fresh: list[Event] = [new, listed(0, at=2.5)]
    assert violations(page("Alice", message(1), *fresh), faults=(emptied,)) == []
    elsewhere = InjectedFault("delete one key", None, 1.2, 1.8, loses_data=True, room="room-2")
    assert violations(page("Alice", message(1), *fresh), faults=(elsewhere,)) != []
    assert violations(page("Alice", message(1), Positioned(9.0, "f" * 16, 0, False))) == []


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([Closed(1.0, 1006)], None),
        ([Closed(1.0, 1006), Opened(1.4, 1)], None),
        ([Left(1.0)], None),
        ([], InjectedFault("pause", 0, 0.5, 4.0)),
    ],
    ids=["for ever", "for a while", "by leaving", "with a node"],
)
def test_a_leave_with_a_cause_is_accepted_once(
    events: list[Event], fault: InjectedFault | None
) -> None:
    faults = () if fault is None else (fault,)
    pages = page("Alice", edge("left", 2)), page("Carol", *events)
    assert violations(*pages, faults=faults) == []
    twice = page("Alice", edge("left", 2), edge("joined", 3), edge("left", 4))
    found = violations(twice, pages[1], faults=faults)
    assert found[0].endswith("2 times, but can have left only 1 times")


def test_an_accepted_message_must_arrive_and_each_request_needs_a_reply() -> None:
    late = [publish("key 1", 1.0, 1.1), publish("later", 2.0, 2.1)]
    alice, bob = page("Alice", message(2, "later")), page("Bob", message(1), message(2, "later"))
    assert "I3 Alice/1 never received an accepted message" in violations(alice, publishes=late)[0]
    assert violations(bob, publishes=late) == []
    assert violations(alice, publishes=[publish("key 1", 1.0, 1.1, "refused")]) == []
    (found,) = violations(publishes=[publish("key 1", 1.0, 1.1, "unanswered")])
    assert found.startswith("I3 no reply to")


@pytest.mark.parametrize(
    "reported",
    [
        {0: {}},
        {0: {ROOM: ["Alice", "Bob"]}},
        {0: {ROOM: ["Alice", "Alice"]}},
        {1: {"other": ["Bob"]}},
    ],
    ids=["missing", "ghost", "twice", "another room"],
)
def test_a_node_with_wrong_members_is_found(reported: dict[int, dict[str, list[str]]]) -> None:
    present = {ROOM: {"Alice"}}
    assert wrong_members(present, {2: {ROOM: ["Alice"]}}) == []
    (found,) = wrong_members(present, reported)
    assert f"I2: node {next(iter(reported))} has wrong members" in str(found)


def test_a_view_has_the_list_and_the_changes_after_it() -> None:
    view = PageView("Alice")
    events: list[Event] = [
        listed(3, "Bob", "Carol"),
        edge("left", 2, "Bob"),  # contained in the list
        Positioned(3.0, EPOCH, 3),
        edge("joined", 4, "Dora"),
        edge("left", 5),
        edge("joined", 5, "Carol"),  # known
        edge("joined", 6, "Alice"),
    ]
    for event in events:
        view.update(event)
        assert not view.wrong
    assert wrong_views([("Alice/1", view)], {ROOM: {"Alice", "Bob", "Dora"}}) == []
    (found,) = wrong_views([("Alice/1", view)], {ROOM: {"Alice", "Carol", "Dora"}})
    assert "missing ['Carol'], ghosts ['Bob']" in found.sentence
    view.update(edge("left", 7, "Zoe"))
    assert view.wrong == "received left of Zoe, who is not in its view"
    view.update(edge("joined", 8, "Dora"))
    assert view.wrong == "received joined of Dora, who is already in its view"


LOSS = InjectedFault("flush all", None, 0.5, 0.6, loses_data=True)


@pytest.mark.parametrize(
    ("events", "faults", "sentence"),
    [
        ([edge("joined", 1), edge("joined", 2), listed(2, at=3.0)], (LOSS,), ""),
        ([edge("joined", 1), edge("joined", 2), listed(2, at=3.0)], (), "already in its view"),
        (
            [edge("joined", 1), edge("joined", 2), listed(2, at=30.0)],
            (LOSS,),
            "already in its view, and got no new list before 30.00",
        ),
        ([listed(0, partial=True), edge("left", 1), listed(1, at=2.0)], (), ""),
        ([listed(0, partial=True), listed(1, at=30.0)], (), "got a partial list, and got no new"),
        (
            [Positioned(2.0, EPOCH, 0, False), listed(0, at=30.0)],
            (LOSS,),
            "was told of a loss in room-1, and got no new list",
        ),
    ],
    ids=["after a loss", "without a loss", "too late", "partial", "partial for long", "no list"],
)
def test_a_contradiction_needs_a_cause_and_a_new_list(
    events: list[Event], faults: tuple[InjectedFault, ...], sentence: str
) -> None:
    every = violations(page("Alice", listed(0, at=0.0), *events), faults=faults)
    found = [each for each in every if each.startswith("P4")]
    assert bool(found) == bool(sentence), found
    assert all(sentence in each for each in found)


def test_a_message_that_nobody_received_is_lost_unless_its_page_was_told() -> None:
    accepted = [publish("key 1", 1.0, 1.1)]
    (found,) = violations(page("Alice"), publishes=accepted, checkpoints=[5.0])
    assert found.startswith("I3 Alice/1 never received an accepted message")
    told = page("Alice", Positioned(2.0, EPOCH, 1, False), listed(1, at=2.5))
    assert violations(told, publishes=accepted, faults=(LOSS,), checkpoints=[5.0]) == []
    closed = page("Alice", Closed(2.0, 1006))
    assert violations(closed, publishes=accepted, checkpoints=[5.0]) == []


@pytest.mark.parametrize(
    ("end", "outcome", "is_wrong"),
    [
        (2.5, "done", False),
        (9.0, "done", True),
        (9.0, "refused", False),
        (9.0, "unconfirmed", False),
        (30.0, "unconfirmed", True),
    ],
)
def test_a_command_closes_the_connections_that_it_concerns(
    end: float, outcome: str, is_wrong: bool
) -> None:
    command = Command("Carol", "", 2.0, 2.2, outcome)
    cut = InjectedFault("hold both directions", 0, 1.5, 5.0)
    pages = page("Carol", Closed(end, DISCONNECTED_CODE)), page("Alice")
    found = violations(*pages, faults=(cut,), commands=[command])
    assert bool(found) == is_wrong, found
    (found_code, *_) = violations(*pages, faults=(cut,))
    assert "was closed with 4001" in found_code


def test_a_violation_contains_an_excerpt_of_the_record() -> None:
    many = [message(offset) for offset in range(1, 100)]
    (found,) = check(Record([page("Alice", *many, message(100, "key 50"))]))
    lines = str(found).splitlines()
    assert lines[0] == "I1: Alice/1 received key 50 twice"
    assert len(lines) < 25
    assert any("->" in line and "'offset': 100" in line for line in lines)


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (InjectedFault("pause", 0, 0.5, 4.0), 2),
        (InjectedFault("restart redis", None, 0.5, 1.5, loses_data=True), 1),
    ],
    ids=["with a node", "where an engine began empty"],
)
def test_a_leave_is_accepted_while_another_page_of_the_user_is_unknown(
    fault: InjectedFault, times: int
) -> None:
    other = Page("Carol/2", "Carol", (ROOM,), [Opened(1.0, 1), Closed(2.0, 1000)])
    edges = [
        edge("left", 1),
        edge("joined", 2),
        edge("left", 3),
        edge("joined", 4),
        edge("left", 5),
    ]
    pages = page("Carol"), other
    assert violations(page("Alice", *edges[: 2 * times]), *pages, faults=(fault,)) == []
    (found,) = violations(page("Alice", *edges[: 2 * times + 1]), *pages, faults=(fault,))
    assert found.endswith(f"{times + 1} times, but can have left only {times} times")
    assert violations(page("Alice", *edges[:1]), *pages)[0].endswith("can have left only 0 times")
