"""Keys that no live node owns: found by a bounded scan of the servers."""

import pytest

from falcon_pachinko.backends.redis import leftovers
from falcon_pachinko.backends.redis.leftovers import Leftovers, find_leftovers, read_ownership
from falcon_pachinko.backends.redis.url import make_client

from ...support.backends import HISTORY, Nodes, announced
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis

ANSWER_SECONDS = 5.0


async def scan(server: RedisServer, prefix: str) -> Leftovers:
    """Scan the keys of a server, as the doctor does."""
    client = make_client(server.url, prefix, ANSWER_SECONDS)
    try:
        connection = await client.open_pubsub_connection("")
        try:
            return await find_leftovers(client, {"": connection})
        finally:
            await connection.disconnect(nowait=True)
    finally:
        await client.aclose()


async def test_the_keys_of_live_nodes_are_owned(nodes: Nodes, redis_server: RedisServer) -> None:
    node = await nodes.start()
    await node.backend.subscribe("general", HISTORY)
    await node.backend.enter_nowait("general", announced(f"{node.backend.node_id}-1", "Alice"))
    await node.backend.acquire("work")
    client = node.redis.client
    live, is_owned = await read_ownership(client)
    assert live == {node.backend.node_id}
    assert is_owned("{general}:m")
    assert not is_owned("{lost}:m")
    found = await scan(redis_server, nodes.prefix)
    assert found.keys > 0
    assert found == Leftovers(found.keys, 0, [], complete=True)


async def test_the_keys_of_a_lost_node_are_not_owned(
    nodes: Nodes, redis_server: RedisServer
) -> None:
    await nodes.start()
    lost = f"{nodes.prefix}:{{%nodes}}:r:lost"
    redis_server.command("SET", f"{nodes.prefix}:{{lost}}:m", "1", "EX", "60")
    redis_server.command("SET", lost, "1")
    redis_server.command("SET", f"{nodes.prefix}other:{{x}}:m", "1")
    found = await scan(redis_server, nodes.prefix)
    assert (found.unowned, found.permanent, found.complete) == (2, [lost], True)


async def test_without_a_live_node_the_counts_of_users_are_left_over(
    nodes: Nodes, redis_server: RedisServer
) -> None:
    key = f"{nodes.prefix}:{{%user:alice}}"
    redis_server.command("SET", key, "1")
    assert (await scan(redis_server, nodes.prefix)).permanent == [key]
    await nodes.start()
    assert (await scan(redis_server, nodes.prefix)).permanent == []


async def test_a_scan_is_bounded(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.command("EVAL", "for i = 1, 5000 do redis.call('SET', 'chat:' .. i, 1) end", 0)
    monkeypatch.setattr(leftovers, "MAX_KEYS", 2000)
    found = await scan(redis_server, "chat")
    assert not found.complete
    assert 0 < found.unowned <= found.keys < 5000
    assert len(found.permanent) <= leftovers.MAX_CHECKED_KEYS


async def test_a_prefix_is_no_pattern(redis_server: RedisServer) -> None:
    redis_server.command("SET", "chat:x", "1")
    assert await scan(redis_server, "c*[h]?") == Leftovers(0, 0, [], complete=True)
