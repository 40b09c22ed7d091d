"""The accept transaction buffers messages within the bounds of the outbox."""

from collections.abc import Callable

import pytest

from falcon_pachinko import Limits, OutboxFull
from falcon_pachinko.connection.transaction import AcceptTransaction
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


def test_received_messages_can_precede_later_ones_of_on_connect() -> None:
    transaction = AcceptTransaction(Limits())
    welcome, missed, state, live = (text(size) for size in range(4))
    transaction.add_own(welcome)
    transaction.add_received(missed)
    transaction.put_received_first()
    transaction.add_own(state)
    transaction.add_received(live)
    assert (transaction.own, transaction.received) == ([welcome, missed, state], [live])
    assert (transaction.count, transaction.size_bytes) == (4, 6)


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
