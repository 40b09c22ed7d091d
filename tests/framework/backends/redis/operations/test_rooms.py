"""The operations on the presence in a room: requests, and replies as values."""

import pytest

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.operations import (
    Claimed,
    Compared,
    Departure,
    Entered,
    Joined,
    Page,
    Renewal,
    Renewed,
    Terms,
)
from falcon_pachinko.backends.redis.script import raw
from falcon_pachinko.history import Position

TERMS = Terms(node="node", lease=900, period=300, grace=200, recovery=200)


def test_the_reply_to_a_renewal_is_decoded() -> None:
    operation = operations.renew_room(
        "{room}",
        TERMS,
        generation="g",
        digest=1,
        known=Position("epoch", 6),
        extend=False,
    )
    assert not operation.needs_lease
    for renewal in Renewal:
        reply = [renewal.value, b"epoch", b"7", 50, b"v"]
        assert operation.decode(reply) == Renewed(renewal, Position("epoch", 7), 50, "v")


def test_a_node_without_a_list_renews_no_lease() -> None:
    operation = operations.renew_room(
        "{room}", TERMS, generation="", digest=None, known=None, extend=True
    )
    assert operation.request[:3] == ("renew_room", "{room}", None)
    assert operation.decode([b"ok", b"epoch", b"7", 0, b""]).version is None


def test_the_replies_about_a_list_are_decoded() -> None:
    claim = operations.claim("{room}", TERMS, known="g")
    assert claim.decode([b"g", 1, 0]) == Claimed("g", kept=True, is_lost=False)
    compare = operations.compare("{room}", TERMS, "", "", [["ualice", "c1", 1, 0]])
    compared = Compared(["c1", "c2"], more=True, waiting=["ubob"])
    assert compare.decode([[b"c1", b"c2"], 1, [b"ubob"]]) == compared


def test_the_reply_to_a_join_is_decoded() -> None:
    operation = operations.enter("{room}", TERMS, Presence("c1", "alice"), claims=True)
    assert operation.needs_lease
    reply = [b"first", 1, b"1700000000000001", b"g", 50, b"v"]
    place = 1_700_000_000_000_001
    entered = Entered(Joined.FIRST, True, place, "g", 50, "v")
    assert operation.decode(reply) == entered


def test_the_reply_to_a_leave_is_decoded() -> None:
    presence = Presence("c1", "alice")
    operation = operations.leave("{room}", TERMS, presence, grace=200, is_last=False)
    assert operation.needs_lease
    assert [operation.decode(each.value) for each in Departure] == list(Departure)
    with pytest.raises(ValueError, match="unknown"):
        operation.decode(b"unknown")


def test_an_update_has_the_version_of_the_record_and_returns_a_position() -> None:
    presence = Presence("c1", "alice", record=b"1")
    operation = operations.update("{room}", TERMS, presence, None)
    assert operation.needs_lease
    assert operation.request[:5] == ("update", "{room}", TERMS.node, "ualice", "c1")
    assert operation.request[5] == (presence.version, raw(b"1"))
    assert operation.decode(b"") is None
    assert operation.decode(b"epoch:7") == Position("epoch", 7)


def test_a_page_is_decoded_or_has_to_be_read_again() -> None:
    operation = operations.page("{room}", TERMS, "alice", 2, node="n")
    flat = [b"ubob", b"11", b"ucarol", b"12"]
    page = Page(5, Position("epoch", 7), [(11, "bob"), (12, "carol")], more=True)
    assert operation.decode([5, b"epoch", b"7", flat, 1, [], 0]) == page
    records = [[], [b"c1", b'"away"', b"c2", b"7"]]
    of_carol = {"carol": {"c1": b'"away"', "c2": b"7"}}
    with_records = page._replace(records=of_carol, recovery=50)
    assert operation.decode([5, b"epoch", b"7", flat, 1, records, 50]) == with_records
    assert operation.decode(b"expire") is None
    with pytest.raises(LookupError, match="alice"):
        operation.decode(b"unknown")


def test_the_key_of_a_user_is_not_a_place() -> None:
    after: str | int
    for after, sent in (("7", "u7"), (7, 7)):
        operation = operations.page("{room}", TERMS, after, 2, node="n")
        assert operation.request[-2:] == (sent, 2)


@pytest.mark.parametrize(
    ("after", "key"),
    [(None, None), ("alice", "ualice"), (7, 7), (10**30, 2**53), (-(10**30), -(2**53))],
)
def test_the_place_after_which_a_page_begins_is_bounded(
    after: int | str | None, key: int | str | None
) -> None:
    operation = operations.page("{room}", TERMS, after, 5, node="node")
    assert operation.request[4] == key
