"""Expired nodes: their users leave, also where the keys of one room are broken."""

import pytest

from falcon_pachinko.backends.redis.eviction import evict

from ...support.backends import HISTORY, Nodes, RecordingNode, announced, wait_until
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


async def test_a_broken_room_does_not_prevent_the_eviction_of_a_node(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for room in ("broken", "room"):
        await b.backend.subscribe(room, HISTORY)
        await a.backend.subscribe(room, HISTORY)
        await a.backend.enter(room, announced("c1", "alice"))
    await nodes.crash(a)
    redis_server.command("DEL", f"{nodes.prefix}:{{broken}}:p")
    redis_server.command("SET", f"{nodes.prefix}:{{broken}}:p", "a text")
    incarnation = a.redis.presence.incarnation
    await evict(b.redis.pipeline, incarnation)
    await wait_until(lambda: b.got_last("room", "alice left"))
    assert redis_server.keys(f"{nodes.prefix}:{{%nodes}}:r:{incarnation}") == []
    assert b.backend.outage == ""
