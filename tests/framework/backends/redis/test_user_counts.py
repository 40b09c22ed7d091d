"""The connections of each user over all nodes: the bound, and what faults do to it."""

import asyncio
from collections.abc import Sequence

import pytest

from falcon_pachinko.backends.redis.client import Request
from falcon_pachinko.backends.redis.script import USER_LEASES, user_tag

from ...support.backends import (
    TIMING,
    Nodes,
    RecordingNode,
    disconnected,
    wait_available,
    wait_for_result,
    wait_until,
)
from ...support.redis_servers import RedisServer
from .faults import each_server, lose

pytestmark = [pytest.mark.redis, each_server]

MAX = 20
# What a loaded machine may take for a renewal.
MACHINE_SECONDS = 1.5


async def connect(node: RecordingNode, user: str = "alice", bound: int = MAX) -> bool:
    """Reserve a place; return whether it was granted."""
    request = node.backend.reserve_user_nowait(user, bound)
    return request is None or await request


async def connect_many(count: int, *nodes: RecordingNode) -> int:
    """Reserve places on each node in turn, all at once; return how many were granted."""
    requests = [connect(nodes[number % len(nodes)]) for number in range(count)]
    return sum(await asyncio.gather(*requests))


def counts(nodes: Nodes, user: str = "alice") -> dict[str, int]:
    """Return the number of a user's connections on each node, as stored."""
    assert nodes.server is not None
    with nodes.server.connect() as client:
        stored = client.hgetall(f"{nodes.prefix}:{user_tag(user)}:c")
    return {name: int(value.split()[0]) for name, value in stored.items()}


async def wait_counts(nodes: Nodes, *expected: tuple[RecordingNode, int]) -> None:
    """Wait until the stored numbers are the expected ones."""
    numbers = {node.redis.node_id: number for node, number in expected}
    await wait_until(lambda: counts(nodes) == numbers)


async def test_the_bound_holds_over_all_nodes_and_a_free_place_is_given_again(
    a: RecordingNode, b: RecordingNode
) -> None:
    assert await connect_many(MAX, a, b) == MAX
    assert not await connect(a)
    assert not await connect(b)
    assert await connect(b, "bob")
    a.backend.release_user("alice")
    await wait_for_result(lambda: connect(b), True)
    assert not await connect(a)


async def test_concurrent_connections_get_exactly_the_places_of_the_bound(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for _ in range(5):
        assert await connect_many(50, a, b) == MAX
        granted = counts(nodes)
        assert sum(granted.values()) == MAX
        for node in (a, b):
            for _ in range(granted.get(node.redis.node_id, 0)):
                node.backend.release_user("alice")
        await wait_counts(nodes)


async def test_nothing_remains_of_a_user_without_connections(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    assert await connect_many(4, a, b) == 4
    withdrawn = a.backend.reserve_user_nowait("alice", MAX)
    assert withdrawn is not None
    withdrawn.cancel()
    await wait_counts(nodes, (a, 2), (b, 2))
    for node in (a, b):
        for _ in range(2):
            node.backend.release_user("alice")
    await wait_until(lambda: nodes.stored_keys() == [])
    await wait_until(lambda: not (a.redis.user_counts.users or b.redis.user_counts.users))


async def test_connects_and_disconnects_at_the_same_time_are_one_operation(
    a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = a.redis.client.execute
    requests: list[Request] = []

    async def record(batch: Sequence[Request]) -> list[object]:
        requests.extend(request for request in batch if request[0] == "count_user")
        return await execute(batch)

    monkeypatch.setattr(a.redis.client, "execute", record)
    assert await connect_many(10, a) == 10
    for _ in range(10):
        a.backend.release_user("alice")
    await wait_until(lambda: not a.redis.user_counts.users)
    assert len(requests) == 4


async def test_the_connections_of_a_killed_node_stop_counting(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    assert await connect_many(MAX, a, b) == MAX
    await nodes.crash(a)
    start = asyncio.get_running_loop().time()
    assert not await connect(b)
    await wait_for_result(lambda: connect(b), True)
    seconds = asyncio.get_running_loop().time() - start
    assert seconds < TIMING.expiry_seconds + TIMING.renewal_seconds + MACHINE_SECONDS
    assert await connect_many(MAX, b) == MAX / 2 - 1
    await wait_counts(nodes, (b, MAX))


async def test_old_connections_of_a_live_node_count(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    assert await connect_many(MAX, a) == MAX
    await asyncio.sleep(TIMING.expiry_seconds * 1.2)
    assert not await connect(b)
    await wait_counts(nodes, (a, MAX))


@pytest.mark.parametrize("loss", ["FLUSHALL", "{%nodes}:*", "{%user:alice}:c"])
async def test_a_lost_count_is_written_again(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, loss: str
) -> None:
    assert await connect_many(MAX, a, b) == MAX
    start = asyncio.get_running_loop().time()
    lose(redis_server, nodes, loss)
    await wait_counts(nodes, (a, MAX // 2), (b, MAX // 2))
    seconds = asyncio.get_running_loop().time() - start
    is_noticed = "user" not in loss
    longest = TIMING.expiry_seconds * (1 if is_noticed else USER_LEASES) / 3
    assert seconds < longest + TIMING.renewal_seconds + MACHINE_SECONDS
    assert not await connect(a)


async def test_a_key_of_a_wrong_type_is_replaced(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    assert await connect(a)
    lose(redis_server, nodes, "wrong type {%user:alice}:c")
    assert await connect(a)
    await wait_counts(nodes, (a, 2))


async def test_during_an_outage_no_connection_is_refused_and_all_count_afterwards(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    assert await connect_many(MAX, a, b) == MAX
    redis_server.kill()
    assert await connect(a)
    await wait_until(lambda: a.backend.outage != "" and b.backend.outage != "")
    assert await connect(a)
    assert await connect(a, "bob")
    a.backend.release_user("bob")
    b.backend.release_user("alice")
    redis_server.restart()
    await wait_available(a, b)
    await wait_counts(nodes, (a, MAX // 2 + 2), (b, MAX // 2 - 1))
    assert not await connect(b)
    assert counts(nodes, "bob") == {}


async def test_changes_during_an_outage_of_one_node_are_stored_after_it(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    assert await connect_many(4, a, b) == 4
    async with disconnected(a):
        assert await connect(a)
        assert await connect(a)
        a.backend.release_user("alice")
    await wait_counts(nodes, (a, 3), (b, 2))


async def test_a_lost_reply_refuses_nothing_and_counts_once(
    nodes: Nodes, a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = a.redis.client.execute

    async def lose_the_reply(batch: Sequence[Request]) -> list[object]:
        await execute(batch)
        if any(request[0] == "count_user" for request in batch):
            monkeypatch.undo()
        raise ConnectionError("the reply is lost")

    monkeypatch.setattr(a.redis.client, "execute", lose_the_reply)
    assert await connect_many(2, a) == 2
    await wait_available(a)
    await wait_counts(nodes, (a, 2))


async def test_a_count_from_before_a_jump_of_the_clock_expires(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    assert await connect(a)
    key = f"{nodes.prefix}:{user_tag('alice')}:c"
    in_an_hour = int(redis_server.command("TIME")[0]) * 1000 + 3_600_000
    redis_server.command("HSET", key, "dead", f"{MAX} {in_an_hour}")
    assert not await connect(a)
    await wait_for_result(lambda: connect(a), True)
    await wait_counts(nodes, (a, 2))
