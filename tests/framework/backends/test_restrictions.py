"""The contract of restrictions, verified for memory and for Redis or Valkey, also as a cluster, with two nodes."""

import asyncio

import pytest

from falcon_pachinko.backends.lease import CURRENT_LEASE, Lease
from falcon_pachinko.backends.restriction_entry import (
    BAN,
    MUTE,
    SESSION,
    SESSIONS,
    RestrictionChange,
    RestrictionEntry,
)
from falcon_pachinko.errors import LeaseLost

from ..support.backends import Nodes, RecordingNode

pytestmark = pytest.mark.redis


def last(node: RecordingNode) -> RestrictionEntry:
    """Return the last entry of which a node was notified, which has just been changed."""
    return node.restrictions[-1]


async def test_a_change_has_been_applied_by_all_nodes_when_the_call_returns(
    a: RecordingNode, b: RecordingNode
) -> None:
    until = a.backend.restrictions.now + 60_000
    async with asyncio.timeout(1.0):
        await a.backend.restrict(RestrictionChange(BAN, "bob", "lobby", until))
    for node in (a, b):
        assert node.backend.restrictions.banned_until("bob", "lobby") == until / 1000
        assert last(node).field == "ban\nbob\nlobby"
    async with asyncio.timeout(1.0):
        await b.backend.restrict(RestrictionChange(BAN, "bob", "lobby"))
    for node in (a, b):
        assert not node.backend.restrictions.banned_until("bob", "lobby")
        assert last(node).kept_until == until


async def test_the_last_of_many_changes_wins_on_all_nodes(
    a: RecordingNode, b: RecordingNode
) -> None:
    until = a.backend.restrictions.now + 60_000
    changes = [RestrictionChange(MUTE, "bob", "", number % 2 and until) for number in range(20)]
    for number, change in enumerate(changes):
        await (a, b)[number % 2].backend.restrict(change)
    assert a.backend.restrictions.entries == b.backend.restrictions.entries
    assert a.backend.restrictions.muted_until("bob") == until / 1000
    concurrent = [(a, b)[n % 2].backend.restrict(each) for n, each in enumerate(changes)]
    await asyncio.gather(*concurrent)
    assert a.backend.restrictions.entries == b.backend.restrictions.entries
    assert a.backend.restrictions.digest == b.backend.restrictions.digest


@pytest.mark.parametrize("kind", [SESSION, SESSIONS])
async def test_a_revocation_is_not_shortened(a: RecordingNode, b: RecordingNode, kind: str) -> None:
    now = a.backend.restrictions.now
    for until, issued_until in ((now + 60_000, now - 5), (now + 1_000, now)):
        await a.backend.restrict(RestrictionChange(kind, "s1", "", until, issued_until))
    [entry] = b.backend.restrictions.entries.values()
    assert (entry.until, entry.issued_until) == (now + 60_000, now)


async def test_names_of_all_kinds_of_characters_are_kept(
    a: RecordingNode, b: RecordingNode
) -> None:
    until = a.backend.restrictions.now + 60_000
    await a.backend.restrict(RestrictionChange(BAN, "auth0|5f7c {é} %", "ルーム\t", until))
    assert b.backend.restrictions.banned_until("auth0|5f7c {é} %", "ルーム\t")


async def test_a_later_node_knows_all_restrictions_from_the_start(
    a: RecordingNode, nodes: Nodes
) -> None:
    until = a.backend.restrictions.now + 60_000
    users = [f"user {number}" for number in range(250)]  # more than an operation reads
    for start in range(0, len(users), 10):
        changes = [RestrictionChange(BAN, user, "", until) for user in users[start : start + 10]]
        await asyncio.gather(*[a.backend.restrict(change) for change in changes])
    late = await nodes.start()
    assert late.backend.restrictions.entries == a.backend.restrictions.entries
    assert all(late.backend.restrictions.banned_until(user) for user in users)


async def test_a_worker_that_was_replaced_changes_nothing(a: RecordingNode) -> None:
    lease = await a.backend.acquire("work")
    assert isinstance(lease, Lease)
    await a.backend.release(lease)
    reset = CURRENT_LEASE.set(lease)
    try:
        with pytest.raises(LeaseLost):
            await a.backend.restrict(RestrictionChange(BAN, "bob", "", 2**42))
    finally:
        CURRENT_LEASE.reset(reset)
    assert not a.backend.restrictions
