"""Publish-only access: its life, and the results of its operations."""

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.redis.client import SingleClient
from falcon_pachinko.backends.redis.publisher import RedisPublisher

from ...support.backends import HISTORY, Nodes, RecordingNode, announced, text, wait_until
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


async def test_it_publishes_to_rooms_and_nodes(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    publisher = RedisPublisher(redis_server.url, nodes.prefix, 1.0)
    assert not publisher.is_open
    await publisher.start()
    assert publisher.is_open
    stored = await publisher.publish("room", text("stored"))
    assert stored.offset == 2  # after the join message
    assert await publisher.publish("room", text("ephemeral"), ephemeral=True) == stored
    assert (await publisher.publish("empty", text("nobody receives it"))).offset == 1
    assert await publisher.publish_to_nodes(text("direct")) == 2
    assert await publisher.rooms("ro") == ["room"]
    await wait_until(lambda: a.texts("room") == ["alice joined", "stored", "ephemeral"])
    await wait_until(lambda: len(a.direct) == len(b.direct) == 1)
    await publisher.aclose()
    assert not publisher.is_open
    with pytest.raises(RuntimeError, match="not open"):
        await publisher.rooms("")


async def test_a_start_without_redis_raises_and_leaves_nothing_open() -> None:
    publisher = RedisPublisher("redis://127.0.0.1:1", "app", 1.0)
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1"):
        await publisher.start()
    assert not publisher.is_open


async def test_the_first_publish_after_a_restart_of_redis_uses_a_new_connection(
    redis_server: RedisServer,
) -> None:
    publisher = RedisPublisher(redis_server.url, "app", 1.0)
    await publisher.start()
    try:
        client = publisher.client
        assert isinstance(client, SingleClient)
        connection = client.connection
        assert connection is not None
        assert not connection.is_lost
        redis_server.restart()
        await wait_until(lambda: connection.is_lost)
        assert (await publisher.publish("room", text("hello"))).offset == 1
    finally:
        await publisher.aclose()
