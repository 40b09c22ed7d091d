"""The client of a cluster: sharded pub/sub, servers that are unreachable during a recovery."""

import asyncio

import pytest
import redis

from falcon_pachinko.backends.redis.cluster import ClusterClient

from ...support.backends import (
    HISTORY,
    WAIT_SECONDS,
    running_nodes,
    running_redis_cluster,
    text,
    wait_available,
    wait_until,
)

pytestmark = pytest.mark.redis


async def test_a_node_reconnects_with_all_its_rooms() -> None:
    with running_redis_cluster() as url:
        async with running_nodes(url) as nodes:
            a = await nodes.start()
            rooms = [f"room{number}" for number in range(30)]
            for room in rooms:
                await a.backend.subscribe(room, HISTORY)
            with redis.RedisCluster.from_url(url.replace("+cluster", "")) as client:
                killed = client.execute_command(
                    "CLIENT KILL", "TYPE", "pubsub", target_nodes=redis.RedisCluster.ALL_NODES
                )
            assert killed
            await wait_until(lambda: a.backend.outage != "")
            await wait_available(a)
            for room in rooms:
                await a.backend.publish_nowait(room, text("received"))
            await wait_until(lambda: all(a.got_last(room, "received") for room in rooms))


async def test_a_room_whose_server_is_unreachable_during_a_recovery_is_subscribed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_recovering, may_recover = asyncio.Event(), asyncio.Event()
    with running_redis_cluster() as url:
        async with running_nodes(url) as nodes:
            a, b = await nodes.start(), await nodes.start()
            backend = a.redis
            client, renewals = backend.client, backend.renewals
            open_connection, renew = client.open_pubsub_connection, renewals.renew

            async def refuse(server: str) -> None:
                raise ConnectionRefusedError(f"{server} is unreachable")

            async def wait() -> None:
                is_recovering.set()
                await may_recover.wait()
                await renew()

            monkeypatch.setattr(renewals, "renew", wait)
            backend.pubsub.restart("disconnected by the test")
            await asyncio.wait_for(is_recovering.wait(), WAIT_SECONDS)
            monkeypatch.setattr(client, "open_pubsub_connection", refuse)
            rooms = [f"room{number}" for number in range(30)]
            for room in rooms:
                await backend.subscribe(room, HISTORY)
            monkeypatch.setattr(client, "open_pubsub_connection", open_connection)
            may_recover.set()
            await wait_available(a)
            for room in rooms:
                await b.backend.publish_nowait(room, text("received"))
            await wait_until(lambda: all(a.got_last(room, "received") for room in rooms))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the handler is closed"),  # as uvloop's transports do
        AttributeError(
            "'NoneType' object has no attribute 'writelines'"
        ),  # as redis-py's connections do
    ],
    ids=repr,
)
async def test_a_call_on_a_closed_connection_fails_as_in_an_outage(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    client = ClusterClient("redis://127.0.0.1:1", "prefix", 1.0)

    async def execute(*_: object) -> None:
        raise error

    monkeypatch.setattr(client.cluster, "execute_command", execute)
    with pytest.raises(redis.ConnectionError, match=f"closed: {error}"):
        await client.run_script("{room}", b"", 0)
