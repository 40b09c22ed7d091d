"""The operations on restrictions and tickets: requests, and replies as values."""

import pytest

from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.operations import Restricted, RestrictionPage
from falcon_pachinko.backends.redis.operations.restrictions import ENTRIES_WRITTEN_PER_COST, slices
from falcon_pachinko.backends.redis.script import RESTRICTIONS_PER_SLICE, ticket_tag
from falcon_pachinko.backends.restriction_entry import BAN, RestrictionChange, RestrictionEntry

ENTRY = RestrictionEntry("ban\nbob\n", 1, 2, 3, 0)


def test_replies_are_decoded(caplog: pytest.LogCaptureFixture) -> None:
    restrict = operations.restrict(RestrictionChange(BAN, "bob"), ENTRY, 5, "node")
    assert restrict.decode([b"5-a", [b"node", b""], 0]) == Restricted("5-a", ["node", ""], 0)
    found = [b"digest", b"123", b"ban\nbob\n", b"1 2 3 0", b"ban\neve\n", b"soon"]
    page = operations.read_restrictions("0").decode([b"7", found])
    assert page == RestrictionPage("7", [ENTRY])
    assert "is not valid" in caplog.text
    assert operations.restrictions_digest().decode(b"123 2") == "123 2"
    assert operations.redeem_ticket("t").decode([]) is None
    assert operations.redeem_ticket("t").decode([b"caf\xc3\xa9"]) == "café"


def test_entries_are_written_in_slices_that_cost_more() -> None:
    entries = [ENTRY] * (2 * RESTRICTIONS_PER_SLICE + 1)
    assert [len(part) for part in slices(entries)] == [200, 200, 1]
    assert slices([]) == []
    cost = 1 + RESTRICTIONS_PER_SLICE // ENTRIES_WRITTEN_PER_COST
    assert operations.merge_restrictions(entries[:200], 1).cost == cost
    assert operations.drop_restrictions(entries[:200]).cost == cost


def test_redis_does_not_get_the_ticket_itself() -> None:
    issue = operations.issue_ticket("secret", "value", 1_000)
    assert "secret" not in str(issue.request)
    assert issue.tag == ticket_tag("secret") == operations.redeem_ticket("secret").tag
