"""Renewals: leases are extended in time, doubts last one period, keys live on."""

import asyncio
import time

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.script import ROOM_TTL_MS
from falcon_pachinko.errors import ConfigurationError

from ...support.backends import (
    HISTORY,
    TIMING,
    Nodes,
    RecordingNode,
    announced,
    text,
    wait_available,
    wait_until,
)
from ...support.redis_servers import RedisServer
from .faults import each_server

pytestmark = pytest.mark.redis


def lease_ms(server: RedisServer, nodes: Nodes, node: RecordingNode) -> float:
    """Return the rest of a node's lease in the room."""
    with server.connect() as client:
        seconds, microseconds = map(int, client.time())
        expires: float | None = client.zscore(f"{nodes.prefix}:{{room}}:n", node.redis.node_id)
    assert expires is not None
    return expires - seconds * 1000 - microseconds / 1000


async def test_a_renewal_extends_the_lease_and_sends_no_list(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    listed: list[str] = []
    monkeypatch.setattr(a.redis.presence, "start_listing", listed.append)
    redis_server.command("ZADD", f"{nodes.prefix}:{{room}}:n", "XX", 10**15, a.redis.node_id)
    for _ in range(3):
        await a.redis.renewals.renew()
        rest_ms = lease_ms(redis_server, nodes, a)
        assert 0 < rest_ms <= TIMING.expiry_seconds * 1000
    assert listed == []


@each_server
async def test_keys_of_rooms_in_use_live_on(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    names = [f"{nodes.prefix}:{{room}}:{name}" for name in "mpnok"]
    for name in names:
        redis_server.command("PEXPIRE", name, 60_000)
    a.redis.renewals.extended_at = -ROOM_TTL_MS
    await a.redis.renewals.renew()
    for name in names:
        assert redis_server.command("PTTL", name) > 200_000


@each_server
async def test_a_change_while_a_node_was_cut_off_is_noticed_with_the_next_renewal(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    deliver, a.redis.pubsub.on_message = a.redis.pubsub.on_message, lambda channel, data: None
    await b.backend.publish_nowait("room", text("missed"))
    await wait_until(lambda: b.got_last("room", "missed"))
    a.redis.pubsub.on_message = deliver
    await a.redis.renewals.renew()
    await wait_until(lambda: a.got_last("room", "missed"))
    assert a.history_losses == []


async def test_a_jump_of_the_clock_expires_no_live_node(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node, user in ((a, "alice"), (b, "bob")):
        await node.backend.subscribe("room", HISTORY)
        await node.backend.enter_nowait("room", announced(user, user))
    # NOTE: as if the clock had jumped ahead: all leases are over at the same time.
    key = f"{nodes.prefix}:{{room}}:n"
    redis_server.command("ZADD", key, 1, a.redis.node_id, 1, b.redis.node_id)
    for node in (a, b):
        await node.redis.renewals.renew()
    assert await a.backend.members("room") == await b.backend.members("room") == ["alice", "bob"]
    await a.backend.publish_nowait("room", text("marker"))
    for node in (a, b):
        await wait_until(lambda node=node: node.got_last("room", "marker"))  # type: ignore[misc]
    assert not [each for each in b.texts("room") if each.endswith("left")]


async def test_after_an_outage_other_nodes_have_one_period_to_renew(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node, user in ((a, "alice"), (b, "bob")):
        await node.backend.subscribe("room", HISTORY)
        await node.backend.enter_nowait("room", announced(user, user))
    redis_server.pause()
    try:
        await wait_until(lambda: bool(a.backend.outage and b.backend.outage))
        loop = asyncio.get_running_loop()
        until = loop.time() + TIMING.expiry_seconds
        await wait_until(lambda: loop.time() > until)
    finally:
        redis_server.resume()
    await wait_available(a, b)
    await a.backend.publish_nowait("room", text("marker"))
    await wait_until(lambda: a.got_last("room", "marker") and b.got_last("room", "marker"))
    for node in (a, b):
        assert not [each for each in node.texts("room") if each.endswith("left")]
        assert await node.backend.members("room") == ["alice", "bob"]


async def test_a_doubt_lasts_one_period(a: RecordingNode) -> None:
    renewals = a.redis.renewals
    assert not renewals.in_doubt
    renewals.on_clock_jump(5_000.0)
    assert renewals.in_doubt
    start = asyncio.get_running_loop().time()
    await wait_until(lambda: not renewals.in_doubt)
    assert asyncio.get_running_loop().time() - start >= TIMING.renewal_seconds * 0.9


@pytest.mark.parametrize(
    ("name", "version"), [("0123abcd", "1"), ("2:0123abcd", "2"), ("4:0123abcd", "4")]
)
async def test_a_node_beside_live_nodes_of_another_version_refuses_to_start(
    redis_server: RedisServer, nodes: Nodes, name: str, version: str
) -> None:
    list_of_nodes = f"{nodes.prefix}:{{%nodes}}:n"
    redis_server.command("ZADD", list_of_nodes, round(time.time() * 1000) + 30_000, name)
    with pytest.raises(ConfigurationError, match=f"version {version} of the protocol"):
        await nodes.start()
    redis_server.command("ZADD", list_of_nodes, 1, name)
    node = await nodes.start()
    assert node.backend.outage == ""


async def test_a_node_that_has_started_goes_on_beside_another_version(
    redis_server: RedisServer,
    nodes: Nodes,
    a: RecordingNode,
    caplog: pytest.LogCaptureFixture,
) -> None:
    list_of_nodes = f"{nodes.prefix}:{{%nodes}}:n"
    redis_server.command("ZADD", list_of_nodes, round(time.time() * 1000) + 30_000, "4:0123abcd")
    await a.redis.renewals.renew()
    assert "version 4 of the protocol" in caplog.text
    assert await a.redis.pipeline.call(operations.live_nodes()) == [a.redis.node_id]
    assert a.backend.outage == ""


async def test_a_renewal_during_an_outage_raises(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    redis_server.kill()
    with pytest.raises(BackendUnavailable):
        await a.redis.renewals.renew()
