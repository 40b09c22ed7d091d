"""The invariants accept what is right, and each finds what is planted."""

from collections.abc import Sequence

import pytest

from .invariants import (
    Closed,
    Event,
    Got,
    Left,
    Opened,
    Page,
    Positioned,
    Publish,
    Record,
    Trouble,
    check,
    wrong_last_edges,
    wrong_members,
)

EPOCH = "0123456789abcdef"
ROOM = "room-1"


def said(
    offset: int, key: str = "", who: str = "outside", without: str = "", **more: object
) -> Got:
    payload = {
        "key": key or f"key {offset}",
        "room": ROOM,
        "who": who,
        "user": who.rpartition("/")[0],
        "without": without,
    }
    return Got(float(offset), "said", payload | more, EPOCH, offset)


def edge(what: str, offset: int, user: str = "Carol") -> Got:
    return Got(float(offset), what, {"room": ROOM, "user": user}, EPOCH, offset)


def page(user: str, *events: Event, number: int = 1) -> Page:
    """One that came at 0 and was told that the room is at 0."""
    begin = (Opened(0.0, 0), Positioned(0.0, EPOCH, 0))
    return Page(f"{user}/{number}", user, (ROOM,), [*begin, *events])


def back(at: float, since: int, offset: int, recovered: bool | None, *missed: Got) -> list[Event]:
    """What a page sees that loses its connection and comes back."""
    return [
        Closed(at, 1006),
        Opened(at, 1, {EPOCH: since}),
        *missed,
        Positioned(at, EPOCH, offset, recovered),
    ]


def publish(
    key: str,
    begun: float,
    ended: float,
    outcome: str = "accepted",
    who: str = "outside",
    without: str = "",
) -> Publish:
    user = who.rpartition("/")[0]
    return Publish(key, ROOM, who, user, without, False, begun, ended, outcome)


def broken(
    *pages: Page, troubles: Sequence[Trouble] = (), publishes: Sequence[Publish] = ()
) -> list[str]:
    """The sentences of all that is broken."""
    record = Record(list(pages), list(publishes), list(troubles))
    return [f"{violation.invariant} {violation.sentence}" for violation in check(record)]


def test_a_room_in_order_is_right() -> None:
    mine = said(2, who="Alice/1", without="self")
    hers = said(3, who="Bob/1", without="user")
    alice = page(
        "Alice", said(1), *back(1.5, 1, 3, True, hers), said(4), said(4), Closed(5.0, 1000)
    )
    assert (
        broken(
            alice,
            page("Bob", said(1), mine, said(4)),
            page("Bob", said(1), mine, number=2),
            page("Carol", said(1), mine, hers, said(4)),
            publishes=[
                publish("key 1", 0.5, 0.9),
                publish("key 2", 1.2, 1.9, who="Alice/1", without="self"),
                publish("lost", 2.0, 2.1, "refused"),
                publish("key 4", 3.5, 4.0),
            ],
        )
        == []
    )


def test_what_was_said_while_nobody_promised_anything_may_be_missing() -> None:
    away = [said(offset) for offset in range(1, 200)]
    alice = page("Alice", *back(0.5, 0, 150, False), *away[150:])
    bob = page("Bob", *away)
    gone = page("Carol", Left(1.0), said(3))
    assert broken(alice, bob, gone) == []


@pytest.mark.parametrize(
    ("pages", "sentence"),
    [
        (
            [page("Alice", said(1), said(3)), page("Bob", said(1), said(2), said(3))],
            "I1 Alice/1 has 0123456789abcdef from 0 to 3 but not [2], of which Bob/1 saw",
        ),
        (
            [
                page("Alice", said(1), *back(2.0, 1, 3, True)),
                page("Bob", said(1), said(2), said(3)),
            ],
            "I1 Alice/1 has 0123456789abcdef from 0 to 3 but not [2, 3], of which Bob/1 saw",
        ),
        (
            [page("Alice", said(1), said(3), said(2))],
            "got 0123456789abcdef:2 after 3: an inversion",
        ),
        ([page("Alice", said(1, "once"), said(2, "once"))], "I1 Alice/1 got once twice"),
        (
            [page("Alice", *[Got(1.0, "typing", {"key": "once"}, "", 0) for _ in range(2)])],
            "I1 Alice/1 got once twice",
        ),
        (
            [page("Alice", said(1, "one")), page("Bob", said(1, "other"))],
            "is one message for Alice/1, another for Bob/1",
        ),
        (
            [page("Alice", said(1)), page("Bob", said(2, room="room-2"))],
            "I1 the epoch 0123456789abcdef is of two rooms",
        ),
        (
            [page("Alice", said(1, who="Alice/1", without="self"))],
            "I1 Alice/1 saw what it is excluded from",
        ),
        (
            [page("Alice", said(1, who="Alice/1", without="user"), number=2)],
            "I1 Alice/2 saw what it is excluded from",
        ),
        (
            [page("Alice", Got(1.0, "said", said(1).payload, "f" * 16, 1))],
            "before it was told of that epoch",
        ),
        ([page("Alice", Got(1.0, "left", {"room": ROOM, "user": "Bob"}))], "got left without"),
        ([page("Alice", said(3), *back(4.0, 3, 2, True))], "was put back to 0123456789abcdef:2"),
        (
            [page("Alice", Positioned(1.0, "f" * 16, 1, True))],
            "recovered ffffffffffffffff:1, of which it knew nothing",
        ),
        (
            [page("Alice", said(3), *back(4.0, 3, 9, None))],
            "was not told at 0123456789abcdef:9 whether it has missed anything",
        ),
        (
            [page("Alice", said(3), *back(4.0, 3, 9, False))],
            "was not given the 6 messages up to 0123456789abcdef:9 though it was away for 1.0 s only",
        ),
        (
            [page("Alice", edge("joined", 1), edge("joined", 2))],
            "I2 Alice/1 saw joined of Carol in room-1 twice",
        ),
        (
            [page("Alice", edge("left", 1), said(2), edge("left", 3))],
            "I2 Alice/1 saw left of Carol in room-1 twice",
        ),
        (
            [page("Alice", edge("left", 3)), page("Carol", *back(2.0, 0, 0, True))],
            "I2 Carol was said to have left room-1 1 times, but can have gone 0 times only",
        ),
        ([page("Alice", Closed(1.0, 1011))], "I0 a connection of Alice/1 was closed with 1011"),
        (
            [page("Alice", Got(1.0, "serverError", {"code": "invalidPayload"}))],
            "I0 Alice/1 was answered {'code': 'invalidPayload'}",
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
        "has not gone",
        "crash",
        "unexpected error",
    ],
)
def test_what_is_planted_is_found(pages: list[Page], sentence: str) -> None:
    found = broken(*pages)
    assert any(sentence in violation for violation in found), found


def test_a_room_may_begin_anew_only_where_the_engine_was_emptied() -> None:
    new = Positioned(2.0, "f" * 16, 0, False)
    assert "room-1 began anew as ffffffffffffffff" in broken(page("Alice", said(1), new))[0]
    emptied = Trouble("restart engine", None, 1.2, 1.8)
    assert broken(page("Alice", said(1), new), troubles=(emptied,)) == []
    assert broken(page("Alice", said(1), Positioned(9.0, "f" * 16, 0, False))) == []


@pytest.mark.parametrize(
    ("events", "trouble"),
    [
        ([Closed(1.0, 1006)], None),
        ([Closed(1.0, 1006), Opened(1.4, 1)], None),
        ([Left(1.0)], None),
        ([], Trouble("pause", 0, 0.5, 4.0)),
    ],
    ids=["for ever", "for a while", "by leaving", "with a node"],
)
def test_a_user_may_be_said_to_have_gone_who_may_have(
    events: list[Event], trouble: Trouble | None
) -> None:
    troubles = () if trouble is None else (trouble,)
    pages = page("Alice", edge("left", 2)), page("Carol", *events)
    assert broken(*pages, troubles=troubles) == []
    twice = page("Alice", edge("left", 2), edge("joined", 3), edge("left", 4))
    (found,) = broken(twice, pages[1], troubles=troubles)
    assert found.endswith("2 times, but can have gone 1 times only")


def test_a_publish_that_was_accepted_has_to_arrive_and_each_has_to_be_answered() -> None:
    late = [publish("key 1", 1.0, 1.1), publish("later", 2.0, 2.1)]
    alice, bob = page("Alice", said(2, "later")), page("Bob", said(1), said(2, "later"))
    assert "I3 Alice/1 never got what was accepted" in broken(alice, publishes=late)[0]
    assert broken(bob, publishes=late) == []
    assert broken(alice, publishes=[publish("key 1", 1.0, 1.1, "refused")]) == []
    (found,) = broken(publishes=[publish("key 1", 1.0, 1.1, "unanswered")])
    assert found.startswith("I3 nobody answered")


@pytest.mark.parametrize(
    "told",
    [
        {0: {}},
        {0: {ROOM: ["Alice", "Bob"]}},
        {0: {ROOM: ["Alice", "Alice"]}},
        {1: {"other": ["Bob"]}},
    ],
    ids=["missing", "ghost", "twice", "another room"],
)
def test_a_node_that_is_wrong_about_members_is_found(told: dict[int, dict[str, list[str]]]) -> None:
    living = {ROOM: {"Alice"}}
    assert wrong_members(living, {2: {ROOM: ["Alice"]}}) == []
    (found,) = wrong_members(living, told)
    assert f"I2: node {next(iter(told))} is wrong about the members" in str(found)


CAME = page("Carol")
GONE = page("Carol", Closed(8.0, 1000))


@pytest.mark.parametrize(
    ("observer", "other", "right"),
    [
        (page("Alice", edge("joined", 1)), CAME, True),
        (page("Alice", edge("joined", 1), edge("left", 2)), GONE, True),
        (page("Alice", said(1)), CAME, True),
        (page("Alice", edge("joined", 1)), GONE, False),
        (page("Alice", edge("left", 1)), CAME, False),
        (
            page("Alice", said(1)),
            Page("Carol/1", "Carol", (ROOM,), [Opened(3.0, 0)]),
            False,
        ),
        (
            Page("A/1", "A", (ROOM,), [Opened(3.0, 0), Positioned(3.0, EPOCH, 0), said(9)]),
            GONE,
            False,
        ),
    ],
    ids=["came", "went", "was there", "ghost", "missing", "never announced", "never said to go"],
)
def test_at_the_end_an_observer_has_to_know_who_is_there(
    observer: Page, other: Page, right: bool
) -> None:
    living = {ROOM: {"Alice", "A"} | ({"Carol"} if other is not GONE else set())}
    found = wrong_last_edges([observer], Record([observer, other]), living)
    assert (found == []) == right, found


def test_a_violation_shows_the_part_of_the_record_in_which_it_is() -> None:
    many = [said(offset) for offset in range(1, 100)]
    (found,) = check(Record([page("Alice", *many, said(100, "key 50"))]))
    lines = str(found).splitlines()
    assert lines[0] == "I1: Alice/1 got key 50 twice"
    assert len(lines) < 25
    assert any("->" in line and "'offset': 100" in line for line in lines)


@pytest.mark.parametrize(
    ("trouble", "times"),
    [(Trouble("pause", 0, 0.5, 4.0), 2), (Trouble("restart engine", None, 0.5, 1.5), 1)],
    ids=["with a node", "where an engine began empty"],
)
def test_a_user_may_be_said_to_have_gone_of_whose_other_page_nobody_knows(
    trouble: Trouble, times: int
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
    assert broken(page("Alice", *edges[: 2 * times]), *pages, troubles=(trouble,)) == []
    (found,) = broken(page("Alice", *edges[: 2 * times + 1]), *pages, troubles=(trouble,))
    assert found.endswith(f"{times + 1} times, but can have gone {times} times only")
    assert broken(page("Alice", *edges[:1]), *pages)[0].endswith("can have gone 0 times only")
