"""The list of a node's rooms: compared with each renewal."""

import asyncio

import pytest

from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis.room_index import chunks
from falcon_pachinko.backends.redis.script import ROOMS_PER_OPERATION
from falcon_pachinko.backends.timing import Timing

from ...support.backends import Nodes, RecordingNode, wait_for_result
from ...support.redis_servers import RedisServer
from .faults import each_server


async def join_rooms(node: RecordingNode, *rooms: str) -> None:
    enters = [node.backend.enter_nowait(room, Presence(room, "alice")) for room in rooms]
    await asyncio.gather(*map(asyncio.ensure_future, enters))


def test_chunks_fit_into_one_operation() -> None:
    rooms = [str(number) for number in range(2 * ROOMS_PER_OPERATION + 1)]
    parts = list(chunks(rooms))
    assert [len(part) for part in parts] == [ROOMS_PER_OPERATION, ROOMS_PER_OPERATION, 1]
    assert [room for part in parts for room in part] == rooms
    assert list(chunks([])) == []


@pytest.mark.redis
@each_server
async def test_all_rooms_of_live_nodes_are_found_in_parts(nodes: Nodes) -> None:
    nodes.timing = Timing()
    a, b = await nodes.start(), await nodes.start()
    rooms = [f"room {number:04}" for number in range(1_200)]
    await join_rooms(a, *rooms[:700])
    await join_rooms(b, *rooms[500:], "other")
    assert await a.backend.rooms("room ") == rooms
    assert await b.backend.rooms("room 01") == [f"room 01{number:02}" for number in range(100)]


@pytest.mark.redis
async def test_an_index_that_lacks_rooms_or_has_others_is_replaced(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await join_rooms(a, "one", "two", "three")
    key = f"{nodes.prefix}:{{%nodes}}:r:{a.redis.node_id}"
    for change in (("SREM", "two"), ("SADD", "ghost"), ("DEL",)):
        redis_server.command(change[0], key, *change[1:])
        beat = await a.redis.index.renew()
        assert beat.rooms != 3
        assert await a.backend.rooms("") == ["one", "three", "two"]
        assert (await a.redis.index.renew()).rooms == 3


@pytest.mark.redis
async def test_the_rooms_of_a_node_that_does_not_renew_are_not_listed(
    nodes: Nodes, a: RecordingNode, b: RecordingNode, redis_server: RedisServer
) -> None:
    await join_rooms(a, "a")
    await join_rooms(b, "b")
    await nodes.crash(a)
    await wait_for_result(lambda: b.backend.rooms(""), ["b"])
    await b.redis.index.renew()
    assert redis_server.keys(f"{nodes.prefix}:{{%nodes}}:r:*") == [
        f"{nodes.prefix}:{{%nodes}}:r:{b.redis.node_id}"
    ]
