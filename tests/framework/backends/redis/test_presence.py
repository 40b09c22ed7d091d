"""Presence over Redis: lost data, outages, crashed nodes."""

import asyncio
from collections.abc import Sequence

import pytest

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis.client import Operation

from ...support.backends import (
    HISTORY,
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
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("falcon_pachinko.backends.redis.backend.REFRESH_SECONDS", 0.1)
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter("room", announced("c1", "alice"))
    async with disconnected(a):
        # NOTE: as after the expiry of the key, minutes later.
        redis_server.command("DEL", f"{nodes.prefix}:{{room}}:p")
        await asyncio.sleep(0.2)
    assert await a.backend.members("room") == ["alice"]


async def test_a_leave_without_a_reply_is_expired_under_the_new_name_of_the_node(
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

    async def lose_the_reply(operations: Sequence[Operation]) -> list[object]:
        await execute(operations)
        monkeypatch.undo()
        # NOTE: Redis loses all nodes as well, so that none evicts the old name.
        for key in redis_server.keys(f"{nodes.prefix}:{{%nodes}}:*"):
            redis_server.command("DEL", key)
        raise ConnectionError("the reply is lost")

    monkeypatch.setattr(backend.client, "execute", lose_the_reply)
    await backend.leave("room", announced("c1", "alice"), grace=True)
    await wait_available(a)
    nobody: list[str] = []
    await wait_for_result(lambda: b.backend.members("room"), nobody)
    await wait_until(lambda: b.texts("room").count("alice left") == 1)


async def test_a_user_who_left_during_an_outage_is_evicted_with_the_new_name_of_the_node(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter("room", announced("c1", "alice"))
    backend = a.redis
    async with disconnected(a):
        backend.is_unknown = True
        await backend.leave("room", announced("c1", "alice"), grace=True)
    await wait_until(lambda: backend.presence.expiring == {"room": 1})
    await nodes.crash(a)
    nobody: list[str] = []
    await wait_for_result(lambda: b.backend.members("room"), nobody)
    await wait_until(lambda: b.texts("room").count("alice left") == 1)


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
    await wait_for_result(lambda: c.backend.rooms(""), ["room"])
    await b.backend.publish("room", text("marker"))
    await wait_until(lambda: c.got_last("room", "marker"))
    assert c.texts("room").count("alice left") == 1
    assert "bob left" not in c.texts("room")
