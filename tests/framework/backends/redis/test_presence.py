"""Presence over Redis: lost data, outages, crashed nodes; the invariants of the backend's contract.

P2: presence is a lease. P3: an expired node is fenced. P5: everything heals from nothing. P7: users who were and still
are present are not announced again.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.client import Request
from falcon_pachinko.backends.redis.operations import Operation
from falcon_pachinko.backends.redis.script import ENTRIES_PER_SLICE
from falcon_pachinko.errors import OperationRefused

from ...support.backends import (
    HISTORY,
    TIMING,
    Nodes,
    RecordingNode,
    announced,
    disconnected,
    text,
    wait_available,
    wait_for_result,
    wait_until,
)
from ...support.redis_servers import RedisServer
from .faults import LOSSES, each_server, lose

pytestmark = pytest.mark.redis

# What a loaded machine may take for a renewal and for messages, besides the times of the contract.
MACHINE_SECONDS = 1.5


async def subscribe(*nodes: RecordingNode) -> None:
    """Subscribe nodes to the room."""
    for node in nodes:
        await node.backend.subscribe("room", HISTORY)


async def join(node: RecordingNode, connection: str, user: str) -> Presence:
    """Enter the room."""
    presence = announced(connection, user)
    await node.backend.enter("room", presence)
    return presence


async def marked(sender: RecordingNode, *receivers: RecordingNode) -> None:
    """Publish a marker and wait for it: all earlier messages have been delivered."""
    await sender.backend.publish("room", text("marker"))
    for node in (sender, *receivers):
        await wait_until(partial(node.got_last, "room", "marker"))


async def test_joins_and_leaves_that_a_restart_lost_are_stored_again(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        for room in ("room", "other"):
            await node.backend.subscribe(room, None)
    # NOTE: without messages: their positions would reveal the loss.
    alice, bob, dora, eve = (Presence(name, name) for name in ("alice", "bob", "dora", "eve"))
    for room in ("room", "other"):
        await a.backend.enter(room, alice)
    await a.backend.enter("room", bob)
    for room in ("room", "other"):
        await b.backend.enter(room, dora)
    redis_server.command("SAVE")
    await a.backend.enter("room", eve)
    for room in ("room", "other"):
        await a.backend.leave(room, alice, grace=False)
    a.backend.unsubscribe("other")
    redis_server.restart()
    await wait_for_result(lambda: b.backend.members("room"), ["bob", "dora", "eve"])
    await wait_for_result(lambda: b.backend.members("other"), ["dora"])


async def test_a_node_that_was_disconnected_for_long_stores_its_presence_again(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter("room", announced("c1", "alice"))
    async with disconnected(a):
        # NOTE: as after the expiry of the key, minutes later.
        lose(redis_server, nodes, "{room}:[pnok]")
    await wait_for_result(lambda: a.backend.members("room"), ["alice"])
    await marked(a)
    assert a.texts("room") == ["alice joined", "marker"]


async def test_a_leave_without_a_reply_takes_effect_once(
    redis_server: RedisServer,
    nodes: Nodes,
    a: RecordingNode,
    b: RecordingNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter("room", announced("c1", "alice"))
    backend = a.redis
    execute = backend.client.execute

    async def lose_the_reply(operations: Sequence[Request]) -> list[object]:
        await execute(operations)
        monkeypatch.undo()
        lose(redis_server, nodes, "{%nodes}:*")
        raise ConnectionError("the reply is lost")

    monkeypatch.setattr(backend.client, "execute", lose_the_reply)
    await backend.leave("room", announced("c1", "alice"), grace=True)
    await wait_available(a)
    nobody: list[str] = []
    await wait_for_result(lambda: b.backend.members("room"), nobody)
    await marked(b)
    assert b.texts("room") == ["alice joined", "alice left", "marker"]


async def test_a_user_who_left_during_an_outage_leaves_with_the_node(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter("room", announced("c1", "alice"))
    backend = a.redis
    async with disconnected(a):
        await backend.leave("room", announced("c1", "alice"), grace=True)
    await wait_until(lambda: "ualice" in backend.presence.rooms["room"].ending)
    await nodes.crash(a)
    nobody: list[str] = []
    await wait_for_result(lambda: b.backend.members("room"), nobody)
    await marked(b)
    assert b.texts("room") == ["alice joined", "alice left", "marker"]


async def test_joins_and_leaves_during_an_outage_are_completed_after_it(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter("room", announced("c1", "alice"))
    await wait_until(lambda: b.got_last("room", "alice joined"))
    redis_server.pause()
    try:
        await wait_until(lambda: bool(a.backend.outage and b.backend.outage))
        bob = announced("c2", "bob")
        assert await b.backend.enter("room", bob) is True
        assert await a.backend.leave("room", announced("c1", "alice"), grace=False) is True
    finally:
        redis_server.resume()
    await wait_until(
        lambda: {"bob joined", "alice left"} <= {*a.texts("room")} & {*b.texts("room")}
    )
    await wait_available(a, b)
    assert await a.backend.members("room") == ["bob"]
    for node in (a, b):
        assert node.texts("room").count("alice left") == 1
        assert node.texts("room").count("bob joined") == 1


async def test_one_node_announces_that_the_users_of_a_crashed_node_left(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    c = await nodes.start()
    for node in (a, b, c):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter("room", announced("c1", "alice"))
    await a.backend.enter("room", announced("c2", "bob"))
    await b.backend.enter("room", announced("c3", "bob"))
    await nodes.crash(a)
    await wait_until(lambda: b.got_last("room", "alice left") and c.got_last("room", "alice left"))
    assert await c.backend.members("room") == ["bob"]
    await c.backend.enter("room", announced("c4", "carol"))
    await wait_for_result(lambda: c.backend.rooms(""), ["room"])
    await b.backend.publish("room", text("marker"))
    await wait_until(lambda: c.got_last("room", "marker"))
    assert c.texts("room").count("alice left") == 1
    assert "bob left" not in c.texts("room")


async def test_the_last_message_of_a_node_after_its_last_member_is_delivered(
    a: RecordingNode, b: RecordingNode
) -> None:
    await subscribe(a, b)
    alice = await join(a, "c1", "alice")
    leaving = a.backend.leave("room", alice, grace=False)
    await a.backend.publish("room", text("bye"))
    assert await leaving is True
    await wait_until(lambda: b.got_last("room", "bye"))


async def test_the_lease_ends_with_users_whose_grace_periods_end_together(
    nodes: Nodes, a: RecordingNode
) -> None:
    await subscribe(a)
    users = [await join(a, f"c{number}", f"user {number}") for number in range(5)]
    for presence in users:
        a.backend.leave("room", presence, grace=True)
    await wait_until(lambda: a.redis.presence.rooms == {})
    assert set(nodes.stored_keys()) <= {"{room}:m", "{room}:s"}


# The invariants.


@each_server
@pytest.mark.parametrize("lost", ["nothing", "lease", "leases", "nodes"])
async def test_p2_the_users_of_a_killed_node_leave_once(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, lost: str
) -> None:
    c = await nodes.start()
    await subscribe(a, b, c)
    await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    await join(c, "c3", "carol")
    await a.backend.enter("room", announced("c4", "bob"))
    await a.backend.enter("room", announced("c5", "dora"))
    await a.backend.leave("room", announced("c5", "dora"), grace=True)
    await nodes.crash(a)
    if lost == "lease":
        redis_server.command("ZREM", f"{nodes.prefix}:{{room}}:n", a.redis.node_id)
    elif lost == "leases":
        lose(redis_server, nodes, "{room}:n")
    elif lost == "nodes":
        lose(redis_server, nodes, "{%nodes}:*")
    limit = TIMING.expiry_seconds + TIMING.renewal_seconds + MACHINE_SECONDS
    async with asyncio.timeout(limit):
        await wait_until(lambda: {"alice left", "dora left"} <= set(b.texts("room")))
    assert await c.backend.members("room") == await b.backend.members("room") == ["bob", "carol"]
    await wait_for_result(lambda: c.backend.rooms(""), ["room"])
    await marked(b, c)
    for node in (b, c):
        changes = [each for each in node.texts("room") if each.endswith("left")]
        assert sorted(changes) == ["alice left", "dora left"]
        assert node.texts("room").count("carol joined") == 1
        assert node.history_losses == []


@each_server
async def test_p2_many_users_of_a_killed_node_leave_in_several_calls(
    nodes: Nodes, a: RecordingNode, b: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"user {number}" for number in range(1_000)]
    await a.backend.subscribe("room", None)
    await b.backend.subscribe("room", None)
    await b.backend.enter("room", announced("c", "bob"))
    enters = [a.backend.enter("room", announced(f"c{user}", user)) for user in users]
    assert all(await asyncio.gather(*map(asyncio.ensure_future, enters)))
    await wait_until(lambda: len(b.texts("room")) == 1_001)
    execute, slices = b.redis.client.execute, list[str]()

    async def count(operations: Sequence[Request]) -> list[object]:
        names = [operation[0] for operation in operations]
        slices.extend({"renew_room", "expire_nodes", "page"} & set(names))
        return await execute(operations)

    monkeypatch.setattr(b.redis.client, "execute", count)
    await nodes.crash(a)
    await wait_for_result(lambda: b.backend.members("room"), ["bob"])
    await wait_until(lambda: len(b.texts("room")) >= 2_001)
    await marked(b)
    left = [each.removesuffix(" left") for each in b.texts("room")[1_001:-1]]
    assert sorted(left) == sorted(users)
    assert len(slices) >= 1_000 // ENTRIES_PER_SLICE


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
    await a.backend.publish("room", text("from a"))
    pending.set_result(None)
    await wait_until(lambda: b.got_last("room", "from a"))
    joined_and_left = ["alice joined", "bob joined", "alice left", "alice joined", "from a"]
    assert a.texts("room") == b.texts("room") == joined_and_left
    assert await a.backend.members("room") == await b.backend.members("room") == ["bob", "alice"]


@each_server
@pytest.mark.parametrize("loss", LOSSES)
async def test_p5_and_p7_after_a_loss_everything_is_right_again_and_nobody_is_announced(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    await subscribe(a, b)
    await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    await a.backend.enter("room", announced("c3", "bob"))
    await b.backend.enter("room", announced("c4", "carol"))
    await wait_until(lambda: len(a.texts("room")) == len(b.texts("room")) == 3)
    lose(redis_server, nodes, loss)

    async def state() -> list[tuple[list[str], int, list[str], bool]]:
        return [
            (
                await node.backend.members("room"),
                await node.backend.member_count("room"),
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
    await b.backend.leave("room", announced("c4", "carol"), grace=False)
    await wait_until(lambda: a.got_last("room", "carol left"))


@each_server
@pytest.mark.parametrize("loss", ["{room}:[pnok]", "FLUSHALL"])
async def test_p5_and_p7_a_user_in_the_grace_period_leaves_once_after_a_loss(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    await subscribe(a, b)
    await join(a, "c1", "alice")
    await join(b, "c2", "bob")
    await a.backend.enter("room", announced("c3", "carol"))
    await a.backend.leave("room", announced("c3", "carol"), grace=True)
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
