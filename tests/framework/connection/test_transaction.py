"""The accept transaction buffers messages within the bounds of the outbox."""

from collections.abc import Callable

import pytest

from falcon_pachinko import Limits, OutboxFull
from falcon_pachinko.connection.transaction import AcceptTransaction
from falcon_pachinko.history import Position
from falcon_pachinko.presence import UNKNOWN_CHANGE, ChangeKind, MemberChange
from falcon_pachinko.publication import Publication


def text(size: int) -> Publication:
    return Publication.of_text("x" * size)


def test_messages_are_kept_by_kind_and_in_order() -> None:
    transaction = AcceptTransaction(Limits())
    own, received, deferred = [[text(size) for size in range(3)] for _ in range(3)]
    for first, second, third in zip(own, received, deferred, strict=True):
        transaction.add_own(first)
        transaction.add_received(second)
        transaction.defer("room", third, ephemeral=True)
    assert (transaction.own, transaction.received) == (own, received)
    assert transaction.deferred == [("room", each, True) for each in deferred]
    assert (transaction.count, transaction.size_bytes) == (9, 9)


def received(size: int, change: MemberChange | None) -> Publication:
    publication = text(size)
    publication.change = change
    return publication


def test_joins_that_a_list_contains_are_dropped() -> None:
    transaction = AcceptTransaction(Limits())
    joins = [MemberChange(room, "alice", ChangeKind.JOINED) for room in ("room", "other")]
    messages = [received(10, None), *[received(20, each) for each in joins]]
    for each in messages:
        transaction.add_received(each)
    transaction.prepare_list("room")
    assert (transaction.own, transaction.received) == ([], [messages[0], messages[2]])
    assert transaction.size_bytes == 30


def test_messages_that_a_snapshot_contains_are_dropped() -> None:
    transaction = AcceptTransaction(Limits())
    at = Position("e", 5)
    numbered = [
        (received(1, None), at._replace(offset=4), 1700),
        (received(2, None), at, 1700),
        (received(3, MemberChange("room", "alice", ChangeKind.JOINED)), at, 1700),
        (received(4, None), at._replace(offset=6), 1700),
        (received(5, None), Position("another room", 1), 1700),
        (received(6, None), at._replace(offset=2), None),  # What a client gets after its join.
    ]
    for publication, position, published_ms in numbered:
        publication.number(position, published_ms, shown=False)
        transaction.add_received(publication)
    transaction.add_received(ephemeral := received(7, None))
    transaction.prepare_snapshot(at)
    kept = [each for each, _, _ in numbered[2:]]
    assert transaction.received == [*kept, ephemeral]
    assert kept[-1].position == at, "the client knows that it has missed nothing"
    assert transaction.size_bytes == 3 + 4 + 5 + 6 + 7


def test_with_messages_from_a_history_all_that_was_received_precedes_a_list() -> None:
    transaction = AcceptTransaction(Limits())
    welcome, state, later = (text(size) for size in range(3))
    missed, position = received(3, UNKNOWN_CHANGE), received(4, None)
    joined = received(5, MemberChange("room", "alice", ChangeKind.JOINED))
    transaction.add_own(welcome)
    for each in (missed, position, joined):
        transaction.add_received(each)
    transaction.prepare_list("room")
    transaction.add_own(state)
    transaction.add_received(later)
    assert transaction.own == [welcome, missed, position, joined, state]
    assert (transaction.received, transaction.size_bytes) == ([later], 15)


@pytest.mark.parametrize("limits", [Limits(outbox_messages=3), Limits(outbox_bytes=30)])
@pytest.mark.parametrize("kind", ["own", "received", "deferred"])
def test_all_kinds_count_towards_the_bounds(limits: Limits, kind: str) -> None:
    transaction = AcceptTransaction(limits)
    transaction.add_own(text(10))
    transaction.add_received(text(10))
    transaction.defer("room", text(10), ephemeral=False)
    add: dict[str, Callable[[Publication], None]] = {
        "own": transaction.add_own,
        "received": transaction.add_received,
        "deferred": lambda publication: transaction.defer("room", publication, ephemeral=False),
    }
    with pytest.raises(OutboxFull, match=r"4 messages of 40 bytes .* send fewer there"):
        add[kind](text(10))
