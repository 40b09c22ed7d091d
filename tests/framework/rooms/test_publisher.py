"""Publishers: programs outside the servers that publish to rooms and users."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
import redis

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.errors import ConfigurationError
from falcon_pachinko.publisher import AsyncPublisher, Publisher

from ..support.backends import running_redis_cluster
from ..support.chat_cluster import ChatCluster, message, received, running_chat
from ..support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


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


async def test_a_publisher_that_is_not_open_raises() -> None:
    publisher = AsyncPublisher("redis://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="async with AsyncPublisher"):
        await publisher.broadcast_to_room("room", "not sent")


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.filterwarnings("error")
async def test_in_an_event_loop_a_publisher_names_the_async_one_and_opens_nothing(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    async def connect(publisher: AsyncPublisher) -> AsyncPublisher:
        opened.append(publisher)
        return publisher

    monkeypatch.setattr(AsyncPublisher, "__aenter__", connect)
    publisher = Publisher(f"{scheme}://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="async with AsyncPublisher"), publisher:
        opened.append("the block")
    assert opened == []
    del publisher
    gc.collect()


@pytest.mark.filterwarnings("error")
async def test_an_open_publisher_refuses_calls_in_an_event_loop_and_stays_usable(
    redis_server: RedisServer,
) -> None:
    def enter() -> Publisher:
        return Publisher(redis_server.url).__enter__()

    publisher = await asyncio.to_thread(enter)
    with pytest.raises(RuntimeError, match="async with AsyncPublisher"):
        publisher.broadcast_to_all("not sent")
    with pytest.raises(RuntimeError, match="async with AsyncPublisher"):
        publisher.__exit__(None, None, None)

    def leave() -> None:
        publisher.broadcast_to_all("sent")
        publisher.__exit__(None, None, None)

    await asyncio.to_thread(leave)
    gc.collect()


@pytest.mark.parametrize("waits", [False, True], ids=["plain", "like TLS"])
@pytest.mark.parametrize("pending", [False, True], ids=["idle", "pending"])
@pytest.mark.parametrize("frozen", [1, 3])
def test_a_publisher_of_a_frozen_cluster_closes_in_time(
    frozen: int, pending: bool, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 1.0

    async def publish_and_close(url: str, pids: list[int]) -> float:
        publisher = AsyncPublisher(url, answer_seconds=seconds)
        await publisher.__aenter__()
        await asyncio.gather(*[publisher.broadcast_to_room(f"room {n}", "x") for n in range(20)])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        if waits:
            # NOTE: with TLS, a connection is closed once the server has answered the closing alert.
            monkeypatch.setattr(
                asyncio.StreamWriter, "wait_closed", lambda _: asyncio.Event().wait()
            )
        text = "x" * 500_000
        rooms = [f"room {n}" for n in range(20 if pending else 0)]
        calls = [asyncio.create_task(publisher.broadcast_to_room(room, text)) for room in rooms]
        await asyncio.sleep(seconds / 5)
        start = time.monotonic()
        await publisher.__aexit__(None, None, None)
        closed_seconds = time.monotonic() - start
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert result is None or isinstance(result, BackendUnavailable)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return closed_seconds

    with running_redis_cluster() as url:
        pids = cluster_pids(url)[:frozen]
        try:
            assert asyncio.run(publish_and_close(url, pids)) < seconds + 0.2
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def cluster_pids(url: str) -> list[int]:
    """Return the process ids of a cluster's servers."""
    with redis.RedisCluster.from_url(url.replace("+cluster", "")) as client:
        answers = client.info("server", target_nodes=redis.RedisCluster.ALL_NODES)
    return [server["process_id"] for server in answers.values()]
