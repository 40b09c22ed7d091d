"""Publishers: programs outside the servers that publish to rooms and users."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.errors import ConfigurationError
from falcon_pachinko.publisher import AsyncPublisher, Publisher

from ..support.chat_cluster import ChatCluster, message, received, running_chat
from ..support.redis_servers import RedisServer, running_redis

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def two_nodes(redis_server: RedisServer) -> AsyncIterator[ChatCluster]:
    async with running_chat(redis_server) as cluster:
        yield cluster


async def test_an_async_publisher_reaches_rooms_users_and_all_connections(
    two_nodes: ChatCluster,
) -> None:
    alice, bob = await two_nodes.connect(0, "/chat/alice"), await two_nodes.connect(1, "/chat/bob")
    assert await received(alice, 1) == ["bob joined"]
    async with AsyncPublisher(two_nodes.url, prefix=two_nodes.prefix) as publisher:
        await asyncio.gather(
            *[publisher.broadcast_to_room("lobby", message(number=n)) for n in range(20)]
        )
        await publisher.broadcast_to_room("lobby", "not for alice", exclude_users=["alice"])
        await publisher.send_to_user("alice", "for alice")
        await publisher.broadcast_to_all("for all")
        assert await publisher.get_rooms_by_prefix("l") == ["lobby"]
        await publisher.disconnect_user("bob", 4001, "bye")
    numbers = [message(number=n) for n in range(20)]
    assert await received(bob, 22) == [*numbers, "not for alice", "for all"]
    assert (await bob.wait_closed())[0] == 4001
    assert await received(alice, 22) == [*numbers, "for alice", "for all"]


async def test_a_publisher_works_without_an_event_loop(two_nodes: ChatCluster) -> None:
    alice = await two_nodes.connect(0, "/chat/alice")

    def publish() -> list[str]:
        with Publisher(two_nodes.url, prefix=two_nodes.prefix) as publisher:
            publisher.broadcast_to_room("lobby", "to the room", ephemeral=True)
            publisher.send_to_user("alice", "to alice")
            publisher.broadcast_to_all("to all")
            publisher.disconnect_user("unknown")
            rooms = publisher.get_rooms_by_prefix("")
            publisher.close_room("lobby", 4002)
            return rooms

    assert await asyncio.to_thread(publish) == ["lobby"]
    assert await received(alice, 3) == ["to the room", "to alice", "to all"]
    assert (await alice.wait_closed())[0] == 4002


async def test_a_publisher_reports_bad_urls_and_outages(redis_server: RedisServer) -> None:
    with pytest.raises(ConfigurationError, match="needs the backend's URL"):
        Publisher("")
    with pytest.raises(ConfigurationError, match="redis://"):
        Publisher("http://127.0.0.1")
    unavailable = AsyncPublisher("redis://127.0.0.1:1", answer_seconds=1.0)
    with pytest.raises(BackendUnavailable) as raised:
        await unavailable.__aenter__()
    assert "127.0.0.1:1" in str(raised.value)
    redis_server.pause()
    try:
        with pytest.raises(BackendUnavailable, match=r"^no response in time$"):
            await AsyncPublisher(redis_server.url, answer_seconds=0.5).__aenter__()
    finally:
        redis_server.resume()
    with pytest.raises(RuntimeError, match="event loop"):
        Publisher("redis://127.0.0.1:1").__enter__()


async def test_a_publisher_that_is_not_open_raises() -> None:
    publisher = AsyncPublisher("redis://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="async with AsyncPublisher"):
        await publisher.broadcast_to_room("room", "not sent")
