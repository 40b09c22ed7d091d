"""The leases of a node in its rooms: lists of connections, fencing, the recovery after a loss; invariants.

P3: an expired node is fenced. P4: members get a right list. P5: everything heals from nothing. P7: users who were and
still are present are not announced again.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.operations import Operation
from falcon_pachinko.errors import OperationRefused
from falcon_pachinko.history import Position

from ...support.backends import (
    HISTORY,
    TIMING,
    Nodes,
    RecordingNode,
    announced,
    disconnected,
    text,
    wait_for_result,
    wait_until,
)
from ...support.redis_servers import RedisServer
from .faults import LOSSES, each_server, lose, lose_reply
from .room import MACHINE_SECONDS, join, marked, subscribe

pytestmark = pytest.mark.redis


async def test_joins_and_leaves_that_a_restart_lost_are_stored_again(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        for room in ("room", "other"):
            await node.backend.subscribe(room, None)
    # NOTE: without messages: their positions would reveal the loss.
    alice, bob, dora, eve = (Presence(name, name) for name in ("alice", "bob", "dora", "eve"))
    for room in ("room", "other"):
        await a.backend.enter_nowait(room, alice)
    await a.backend.enter_nowait("room", bob)
    for room in ("room", "other"):
        await b.backend.enter_nowait(room, dora)
    redis_server.command("SAVE")
    await a.backend.enter_nowait("room", eve)
    for room in ("room", "other"):
        await a.backend.leave_nowait(room, alice, grace=False)
    a.backend.unsubscribe("other")
    redis_server.restart()
    await wait_for_result(lambda: b.backend.members("room"), ["bob", "dora", "eve"])
    await wait_for_result(lambda: b.backend.members("other"), ["dora"])


async def test_a_node_that_was_disconnected_for_long_stores_its_presence_again(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    async with disconnected(a):
        # NOTE: as after the expiry of the key, minutes later.
        lose(redis_server, nodes, "{room}:[pnok]")
    await wait_for_result(lambda: a.backend.members("room"), ["alice"])
    await marked(a)
    assert a.texts("room") == ["alice joined", "marker"]


@each_server
async def test_p3_an_expired_node_is_refused_until_it_has_sent_its_list(
    nodes: Nodes, a: RecordingNode, b: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await subscribe(a, b)
    alice = await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    await wait_until(lambda: len(a.texts("room")) == 2)
    pending = asyncio.get_running_loop().create_future()
    with monkeypatch.context() as patched:
        patched.setattr(a.redis.renewals, "renew", lambda: pending)
        await wait_until(lambda: b.got_last("room", "alice left"))
    terms, pipeline = a.redis.terms, a.redis.pipeline
    refused: tuple[Operation[Any], ...] = (
        operations.publish("{room}", b"\nlate", ephemeral=False, node=terms.node),
        operations.enter("{room}", terms, announced("c3", "eve"), claims=False),
        operations.leave("{room}", terms, alice, grace=0, is_last=False),
        operations.expire("{room}", terms, "ualice", is_last=False),
    )
    for operation in refused:
        with pytest.raises(OperationRefused, match="no lease"):
            await pipeline.call(operation)
    await a.backend.publish_nowait("room", text("from a"))
    pending.set_result(None)
    await wait_until(lambda: b.got_last("room", "from a"))
    joined_and_left = ["alice joined", "bob joined", "alice left", "alice joined", "from a"]
    assert a.texts("room") == b.texts("room") == joined_and_left
    assert await a.backend.members("room") == await b.backend.members("room") == ["bob", "alice"]


def begin_recovery(server: RedisServer, nodes: Nodes) -> None:
    """Let the announcements in the room wait, as after a loss of its presence."""
    seconds, _ = server.command("TIME")
    ends = int(seconds) * 1000 + 2000
    server.command("HSET", f"{nodes.prefix}:{{room}}:p", "w", str(ends))


async def test_p7_a_join_without_a_reply_during_a_recovery_is_announced_after_it(
    redis_server: RedisServer,
    nodes: Nodes,
    a: RecordingNode,
    b: RecordingNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await subscribe(a, b)
    await join(a, "c1", "alice")
    begin_recovery(redis_server, nodes)
    client = a.redis.pipeline.client
    lose_reply(client, monkeypatch, "enter", client.drop_connection)
    await join(a, "c2", "bob")
    await wait_until(lambda: a.got_last("room", "bob joined") and b.got_last("room", "bob joined"))
    assert a.texts("room") == b.texts("room") == ["alice joined", "bob joined"]
    assert await b.backend.members("room") == ["alice", "bob"]


async def test_a_user_who_returns_while_an_announcement_is_on_its_way_is_announced(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await subscribe(a)
    await join(a, "c1", "alice")
    begin_recovery(redis_server, nodes)
    bob = await join(a, "c2", "bob")
    await a.backend.leave_nowait("room", bob, grace=False)
    # NOTE: both are in one call, and nothing is known of the user when the first one is executed.
    a.redis.presence.announce_waiting("room")
    a.backend.enter_nowait("room", announced("c3", "bob"))
    await wait_until(lambda: a.got_last("room", "bob joined"))
    assert await a.backend.members("room") == ["alice", "bob"]


async def test_p7_a_user_whose_announcement_a_restart_lost_is_listed_in_silence(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await subscribe(a, b)
    await join(a, "c1", "alice")
    begin_recovery(redis_server, nodes)
    await join(a, "c2", "bob")
    redis_server.command("SAVE")
    await wait_until(lambda: b.got_last("room", "bob joined"))
    redis_server.restart()
    await wait_for_result(lambda: b.backend.members("room"), ["alice", "bob"])
    await marked(a, b)
    assert a.texts("room") == b.texts("room") == ["alice joined", "bob joined", "marker"]


@each_server
@pytest.mark.parametrize("loss", LOSSES)
async def test_p5_and_p7_after_a_loss_everything_is_right_again_and_nobody_is_announced(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    await subscribe(a, b)
    await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    await a.backend.enter_nowait("room", announced("c3", "bob"))
    await b.backend.enter_nowait("room", announced("c4", "carol"))
    await wait_until(lambda: len(a.texts("room")) == len(b.texts("room")) == 3)
    lose(redis_server, nodes, loss)

    async def state() -> list[tuple[list[str], int, list[str], bool]]:
        return [
            (
                await node.backend.members("room"),
                await node.backend.occupancy("room"),
                await node.backend.rooms(""),
                await node.backend.present("room", "carol"),
            )
            for node in (a, b)
        ]

    async with asyncio.timeout(TIMING.renewal_seconds + MACHINE_SECONDS):
        await wait_for_result(state, [(["alice", "bob", "carol"], 3, ["room"], True)] * 2)
    for node in (a, b):
        await node.redis.renewals.renew()
    await marked(a, b)
    await wait_for_result(state, [(["alice", "bob", "carol"], 3, ["room"], True)] * 2)
    for node in (a, b):
        assert node.texts("room") == ["alice joined", "bob joined", "carol joined", "marker"]
    await b.backend.leave_nowait("room", announced("c4", "carol"), grace=False)
    await wait_until(lambda: a.got_last("room", "carol left"))


@each_server
@pytest.mark.parametrize("loss", ["{room}:[pnok]", "FLUSHALL"])
async def test_p5_and_p7_a_user_in_the_grace_period_leaves_once_after_a_loss(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    await subscribe(a, b)
    await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    await a.backend.enter_nowait("room", announced("c3", "carol"))
    await a.backend.leave_nowait("room", announced("c3", "carol"), grace=True)
    lose(redis_server, nodes, loss)
    for node in (a, b):
        await node.redis.renewals.renew()
    await wait_until(lambda: "carol left" in b.texts("room"))
    await wait_for_result(lambda: b.backend.members("room"), ["alice", "bob"])
    await marked(a, b)
    for node in (a, b):
        assert sorted(node.texts("room")) == [
            "alice joined",
            "bob joined",
            "carol joined",
            "carol left",
            "marker",
        ]


@each_server
@pytest.mark.parametrize("loss", ["{room}:p", "{room}:*", "FLUSHALL"])
async def test_p4_after_a_loss_members_get_a_new_list(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    await subscribe(a, b)
    await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    assert a.outdated == b.outdated == []
    lose(redis_server, nodes, loss)
    await wait_until(lambda: bool(a.outdated and b.outdated))
    assert await a.backend.members("room") == await b.backend.members("room") == ["alice", "bob"]


async def test_p4_a_list_that_is_read_during_a_recovery_is_read_again(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await join(a, "c1", "alice")
    await b.backend.subscribe("room", HISTORY)
    lose(redis_server, nodes, "{room}:[pnok]")
    await b.backend.members("room")
    await wait_until(lambda: b.outdated == ["room"])
    assert await b.backend.members("room") == ["alice"]


@pytest.mark.parametrize("grace", [True, False])
async def test_p2_a_node_whose_leave_is_on_its_way_removes_nobody_after_all_leases_have_expired(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, *, grace: bool
) -> None:
    await subscribe(a, b)
    alice = await join(a, "alice", "alice")
    await join(b, "bob", "bob")
    # NOTE: as after Redis and all nodes have stood still: no await follows before the calls.
    leases = f"{nodes.prefix}:{{room}}:n"
    for node in (a, b):
        redis_server.command("ZADD", leases, 1, node.redis.node_id)
    a.backend.leave_nowait("room", alice, grace=grace)
    assert "bob" in await a.backend.members("room")
    await wait_for_result(lambda: b.backend.members("room"), ["bob"])
    await marked(a, b)
    assert "bob left" not in (*a.texts("room"), *b.texts("room"))


@pytest.mark.parametrize("grace", [True, False])
async def test_messages_are_published_while_the_last_leave_acquires_an_expired_lease_again(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, *, grace: bool
) -> None:
    await subscribe(a, b)
    alice = await join(a, "alice", "alice")
    redis_server.command("ZADD", f"{nodes.prefix}:{{room}}:n", 1, a.redis.node_id)
    left = asyncio.ensure_future(a.backend.leave_nowait("room", alice, grace=grace))
    published: list[Awaitable[Position | None]] = []
    while not left.done():
        published.append(a.backend.publish_nowait("room", text(str(len(published)))))
        await asyncio.sleep(0)
    await asyncio.gather(*published)
    await marked(a, b)
    assert len(published) == sum(each.isdecimal() for each in b.texts("room"))


async def test_p2_a_node_without_members_removes_nobody_after_all_have_stood_still(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    c = await nodes.start()
    await subscribe(a, b, c)
    await join(a, "alice", "alice")
    await join(b, "bob", "bob")
    time.sleep(nodes.timing.expiry_seconds + 0.1)  # noqa: ASYNC251 - no node can renew
    assert await c.backend.members("room") == ["alice", "bob"]
    await marked(a, b, c)
    assert not [each for each in c.texts("room") if each.endswith("left")]


async def test_p2_a_read_that_finds_a_jump_of_the_clock_removes_nobody(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await subscribe(a, b)
    await join(a, "alice", "alice")
    # NOTE: to the client it looks as if the clock had jumped; the lease has expired with it.
    client = b.redis.client
    for known in (client.clock_offsets_ms, client.max_offsets_ms):
        for server in known:
            known[server] -= 30_000
    redis_server.command("ZADD", f"{nodes.prefix}:{{room}}:n", 1, a.redis.node_id)
    assert await b.backend.members("room") == ["alice"]
    await marked(a, b)
    assert "alice left" not in b.texts("room")
