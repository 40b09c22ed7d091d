"""P5, restrictions survive every loss of data while one node lives; P6, a change reaches a node that was cut off."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable
from pathlib import Path

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.publisher import RedisPublisher
from falcon_pachinko.backends.restriction_entry import (
    BAN,
    CLOCK_MARGIN_MS,
    SESSION,
    SESSIONS,
    RestrictionChange,
    RestrictionEntry,
)
from falcon_pachinko.backends.restriction_table import RestrictionTable
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.errors import TooManyRestrictions

from ...support.backends import (
    TIMING,
    Nodes,
    RecordingNode,
    running_nodes,
    wait_available,
    wait_for_result,
    wait_until,
)
from ...support.cut_off import CutOff
from ...support.redis_servers import RedisServer, running_redis
from ...support.server_clock import ServerClock, find_faketime
from .faults import each_server, lose

pytestmark = pytest.mark.redis

# The nodes expire after the time that a change has, so that a node that is cut off counts as live meanwhile.
SLOW = dataclasses.replace(TIMING, expiry_seconds=30.0, answer_seconds=0.5)


def until(node: RecordingNode, seconds: int = 3_600) -> int:
    """Return a time in Unix milliseconds."""
    return node.backend.restrictions.now + seconds * 1_000


async def ban(node: RecordingNode, user: str = "bob") -> None:
    await node.backend.restrict(RestrictionChange(BAN, user, "", until(node)))


async def unban(node: RecordingNode, user: str = "bob") -> None:
    await node.backend.restrict(RestrictionChange(BAN, user))


def stored(server: RedisServer, nodes: Nodes) -> dict[str, str]:
    """Return the entries in Redis by name."""
    key = f"{nodes.prefix}:{{%nodes}}:b"
    if server.command("TYPE", key) != "hash":
        return {}
    entries = server.command("HGETALL", key)
    assert isinstance(entries, dict)
    entries.pop("digest")
    return entries


def agrees(server: RedisServer, nodes: Nodes, node: RecordingNode) -> bool:
    """Return whether Redis has the entries of a node."""
    known = node.backend.restrictions.entries
    return stored(server, nodes) == {field: entry.value for field, entry in known.items()}


@each_server
@pytest.mark.parametrize("loss", ["{%nodes}:b", "wrong type {%nodes}:b", "{%nodes}:*", "FLUSHALL"])
async def test_p5_a_loss_is_made_up_for_within_a_renewal(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    await ban(a)
    await ban(b, "eve")
    await unban(a, "eve")
    lose(redis_server, nodes, loss)
    assert stored(redis_server, nodes) == {}
    await a.redis.renewals.renew()
    assert agrees(redis_server, nodes, a)
    late = await nodes.start()
    assert late.backend.restrictions.entries == a.backend.restrictions.entries
    assert late.backend.restrictions.banned_until("bob")


@each_server
async def test_p5_the_renewal_itself_makes_up_for_a_loss(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await ban(a)
    redis_server.command("FLUSHALL")
    await wait_until(lambda: agrees(redis_server, nodes, a))


async def test_p5_more_entries_than_one_operation_writes_are_restored(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for number in range(450):
        a.backend.restrictions.put(
            RestrictionEntry(f"ban\nuser {number}\n", number + 1, until(a), until(a), 0)
        )
    await a.redis.renewals.renew()
    await b.redis.renewals.renew()
    assert agrees(redis_server, nodes, a)
    assert b.backend.restrictions.entries == a.backend.restrictions.entries


async def test_p5_a_ban_survives_a_restart_of_redis_without_data(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await ban(a)
    redis_server.restart()
    await wait_available(a)
    await wait_until(lambda: agrees(redis_server, nodes, a))
    assert (await nodes.start()).backend.restrictions.banned_until("bob")


async def test_p5_a_loss_during_a_change_leaves_the_later_version(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await ban(a)
    redis_server.command("FLUSHALL")
    # Redis does not know the ban. The list of nodes is lost as well, so that others may not have confirmed.
    with contextlib.suppress(BackendUnavailable):
        await unban(b)
    for node in (a, b):
        await node.redis.renewals.renew()
        assert not node.backend.restrictions.banned_until("bob")
    assert agrees(redis_server, nodes, a)


@pytest.fixture
def slow() -> Timing:
    return SLOW


async def test_p6_a_ban_that_a_live_node_has_not_applied_raises_and_the_node_catches_up(
    slow_nodes: Nodes, far: CutOff
) -> None:
    near = await slow_nodes.start()
    await far.cut()
    with pytest.raises(BackendUnavailable, match="1 of 2 nodes have not confirmed"):
        await ban(near)
    assert near.backend.restrictions.banned_until("bob")
    assert not far.node.backend.restrictions
    with pytest.raises(BackendUnavailable):
        await ban(far.node, "eve")
    assert not far.node.backend.restrictions  # nothing is applied during an outage
    await far.restore()
    assert far.node.backend.restrictions.banned_until("bob")
    assert [entry.field for entry in far.node.restrictions] == ["ban\nbob\n"]


async def test_p6_a_node_that_was_cut_off_does_not_undo_an_unban(
    redis_server: RedisServer, slow_nodes: Nodes, far: CutOff
) -> None:
    near = await slow_nodes.start()
    await ban(near)
    await far.cut()
    with pytest.raises(BackendUnavailable):
        await unban(near)
    redis_server.command("FLUSHALL")
    await far.restore()  # before the near node has stored its entries again
    await near.redis.renewals.renew()
    await far.node.redis.renewals.renew()
    for node in (near, far.node):
        assert not node.backend.restrictions.banned_until("bob")
    assert agrees(redis_server, slow_nodes, near)


async def test_p6_a_node_that_was_cut_off_learns_which_sessions_were_revoked(
    slow_nodes: Nodes, far: CutOff
) -> None:
    near = await slow_nodes.start()
    await far.cut()
    issued_until = near.backend.restrictions.now - 10_000
    change = RestrictionChange(SESSIONS, "bob", "", until(near), issued_until)
    with pytest.raises(BackendUnavailable):
        await near.backend.restrict(change)
    await far.restore()
    [entry] = far.node.restrictions
    assert entry.issued_until == issued_until


@pytest.mark.skipif(find_faketime() is None, reason="libfaketime is not installed")
async def test_p5_jumps_of_the_servers_clock_change_nothing(tmp_path: Path) -> None:
    clock = ServerClock(tmp_path)
    with running_redis(environment=clock.environment) as server:
        async with running_nodes(server.url, server=server) as nodes:
            a, b = await nodes.start(), await nodes.start()
            await ban(a, "eve")
            for hours in (5, -9, 4):
                await ban(a)
                clock.jump(hours * 3_600)
                await wait_for_result(lambda: succeeds(unban(b)), True)
                for node in (a, b):
                    await renewed(node)
                    assert not node.backend.restrictions.banned_until("bob")
                    assert node.backend.restrictions.banned_until("eve")
                await wait_until(lambda: agrees(server, nodes, a))


async def succeeds(call: Awaitable[None]) -> bool:
    """Return whether a call reaches all nodes."""
    try:
        await call
    except BackendUnavailable:
        return False
    return True


async def renewed(node: RecordingNode) -> None:
    """Renew once Redis is available."""
    await wait_for_result(lambda: succeeds(node.redis.renewals.renew()), True)


async def test_a_publisher_changes_the_restrictions_of_all_nodes(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    publisher = RedisPublisher(redis_server.url, nodes.prefix, TIMING.answer_seconds)
    await publisher.start()
    try:
        await publisher.restrict(RestrictionChange(BAN, "bob", "", until(a)))
        for node in (a, b):
            assert node.backend.restrictions.banned_until("bob")
        [found] = await publisher.list_restrictions()
        assert found == a.backend.restrictions.list()[0]
        await publisher.restrict(RestrictionChange(BAN, "bob"))
        assert not b.backend.restrictions.banned_until("bob")
        assert await publisher.list_restrictions() == []
    finally:
        await publisher.aclose()


async def test_entries_without_effect_are_removed_everywhere(
    redis_server: RedisServer,
    nodes: Nodes,
    a: RecordingNode,
    b: RecordingNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ban(a)
    await a.backend.restrict(RestrictionChange(BAN, "eve", "", until(a, 7_200)))
    later = until(a) + CLOCK_MARGIN_MS + 1
    monkeypatch.setattr(RestrictionTable, "now", property(lambda table: later))
    for node in (a, b):
        await node.redis.renewals.renew()
        assert list(node.backend.restrictions.entries) == ["ban\neve\n"]
    assert agrees(redis_server, nodes, a)
    assert list(stored(redis_server, nodes)) == ["ban\neve\n"]


async def test_the_number_is_bounded_and_entries_without_effect_make_room(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ban(a)
    key, number, step = f"{nodes.prefix}:{{%nodes}}:b", 100_000, 10_000
    value = f"1 {until(a)} {until(a)} 0"
    for start in range(1, number, step):
        fields = range(start, min(start + step, number))
        redis_server.command("HSET", key, *(p for n in fields for p in (f"ban\n{n}\n", value)))
    reply = operations.restrict(RestrictionChange(BAN, "eve", "", until(a)), None, 0, None)
    assert (await a.redis.pipeline.call(reply)).excess == number
    monkeypatch.setattr(a.redis.shared_restrictions, "renew", asyncio.Event().wait)
    with pytest.raises(TooManyRestrictions, match=f"there are {number} "):
        await ban(a, "eve")
    redis_server.command("HSET", key, "ban\n1\n", "1 1 1 0")
    await ban(a, "eve")
    assert a.backend.restrictions.banned_until("eve")
    assert redis_server.command("HEXISTS", key, "ban\n1\n") == 0


async def test_above_four_fifths_of_the_bound_bans_have_a_place_and_sessions_have_none(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, number, step = f"{nodes.prefix}:{{%nodes}}:b", 80_000, 10_000
    value = f"1 {until(a)} {until(a)} 0"
    for start in range(0, number, step):
        fields = range(start, start + step)
        redis_server.command("HSET", key, *(p for n in fields for p in (f"session\n{n}\n", value)))
    redis_server.command("HSET", key, "digest", "1")
    revocation = RestrictionChange(SESSIONS, "bob", "", until(a), 1)
    reply = operations.restrict(revocation, None, 0, None)
    assert (await a.redis.pipeline.call(reply)).excess == number
    known = RestrictionChange(SESSION, "1", "", until(a))
    assert (await a.redis.pipeline.call(operations.restrict(known, None, 0, None))).identifier
    ban = operations.restrict(RestrictionChange(BAN, "eve", "", until(a)), None, 0, None)
    assert (await a.redis.pipeline.call(ban)).identifier


@pytest.mark.parametrize("damage", ["digest", "field"])
async def test_a_digest_that_is_not_that_of_the_entries_heals(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, damage: str
) -> None:
    await ban(a)
    await ban(b, "eve")
    key = f"{nodes.prefix}:{{%nodes}}:b"
    if damage == "digest":
        redis_server.command("HINCRBY", key, "digest", 5)
    else:
        redis_server.command("HSET", key, "ban\nbob", "1")

    async def is_healed() -> bool:
        digest = await a.redis.pipeline.call(operations.restrictions_digest())
        nodes_agree = all(n.redis.shared_restrictions.digest == digest for n in (a, b))
        return nodes_agree and agrees(redis_server, nodes, a)

    await wait_for_result(is_healed, True)  # by the renewals of both nodes
    assert len(stored(redis_server, nodes)) == 2


async def test_a_value_that_is_not_valid_is_replaced(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.command("HSET", f"{nodes.prefix}:{{%nodes}}:b", "ban\nbob\n", "forever")
    await a.redis.renewals.renew()
    assert "is not valid" in caplog.text
    await ban(a)
    assert a.backend.restrictions.banned_until("bob")
    assert stored(redis_server, nodes)["ban\nbob\n"] != "forever"
