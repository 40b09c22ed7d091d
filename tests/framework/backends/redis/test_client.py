"""Clients of Redis: deadlines in the server's time, the script's cache, failover."""

import asyncio
import contextlib
import itertools
import time
from typing import Any

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.client import SingleClient
from falcon_pachinko.backends.redis.script import ENCODE
from falcon_pachinko.backends.redis.url import make_client

from ...support.backends import (
    HISTORY,
    WAIT_SECONDS,
    Nodes,
    RecordingNode,
    announced,
    running_nodes,
    text,
    wait_available,
    wait_until,
)
from ...support.faulty_proxy import FaultyProxy
from ...support.redis_servers import RedisServer, running_redis

pytestmark = pytest.mark.redis


async def test_a_changed_server_clock_loses_nothing(a: RecordingNode) -> None:
    backend = a.redis
    await backend.subscribe("room", HISTORY)
    for number, hours in enumerate((1, -1)):
        (server,) = backend.client.clock_offsets_ms
        backend.client.clock_offsets_ms[server] += hours * 3_600_000
        await backend.publish_nowait("room", text(str(number)))
    await wait_until(lambda: a.texts("room") == ["0", "1"])
    assert not backend.outage


async def test_a_call_ends_at_its_deadline_though_the_cancellation_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = make_client("redis://127.0.0.1:1", "test", 0.1)
    calls = itertools.count()

    async def reach_late(tag: str, packed: bytes, deadline_ms: int) -> list[Any]:
        """Reply without results, as after the deadline; first swallow a cancellation, as asyncio.wait_for may."""
        if next(calls) == 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.sleep(0)
        return [round(time.time() * 1000)]

    monkeypatch.setattr(client, "run_script", reach_late)
    deadline = asyncio.get_running_loop().time() + client.answer_seconds
    request = operations.live_nodes().request
    with pytest.raises(TimeoutError, match="after their deadline"):
        async with asyncio.timeout_at(deadline):
            await client.execute_until(deadline, "room", ENCODE([request]))


async def test_a_call_ends_at_its_own_deadline_not_at_that_of_an_earlier_one(
    redis_server: RedisServer,
) -> None:
    client = make_client(redis_server.url, "test", 0.4)
    loop, request = asyncio.get_running_loop(), operations.live_nodes().request
    try:
        for _ in range(2):
            await client.execute([request])
            await asyncio.sleep(0.2)
            redis_server.pause()
            start = loop.time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await client.execute([request])
            assert start + 0.4 <= loop.time() < start + WAIT_SECONDS
            redis_server.resume()
            await client.execute([request])
            # NOTE: a backend that is started again uses the same client.
            await client.aclose()
    finally:
        redis_server.resume()
        await client.aclose()


async def test_the_second_command_of_a_call_has_a_deadline_too(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the timer of an earlier call is due just when the first reply has arrived."""
    client = make_client(redis_server.url, "test", 0.4)
    assert isinstance(client, SingleClient)
    request, errors = operations.live_nodes().request, list[Exception]()

    def on_reply(reply: Any) -> None:
        SingleClient.on_reply(client, reply)
        if isinstance(reply, Exception):
            errors.append(reply)
        if len(errors) == 2:  # NOSCRIPT of a new server, and after the flush
            client.check_deadline()
            redis_server.pause()

    monkeypatch.setattr(client, "on_reply", on_reply)
    try:
        await client.execute([request])
        redis_server.command("SCRIPT", "FLUSH")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                await client.execute([request])
        assert client.timer is None
    finally:
        redis_server.resume()
        await client.aclose()


async def test_a_flushed_script_is_loaded_again(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    redis_server.command("SCRIPT", "FLUSH")
    await a.backend.publish_nowait("room", text("hello"))
    await wait_until(lambda: a.got_last("room", "hello"))


async def test_a_server_that_became_a_replica_is_replaced(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    backend = a.redis
    assert isinstance(backend.client, SingleClient)
    await backend.subscribe("room", HISTORY)
    with running_redis() as other:
        redis_server.command("REPLICAOF", "127.0.0.1", other.port)
        # NOTE: as if the address had been reassigned.
        backend.client.pool.connection_kwargs["port"] = other.port
        with pytest.raises(BackendUnavailable):
            await backend.publish_nowait("room", text("refused"))
        await wait_available(a)
        await backend.publish_nowait("room", text("accepted"))
        await wait_until(lambda: a.got_last("room", "accepted"))


async def test_delayed_operations_of_an_expired_node_are_not_executed(
    redis_server: RedisServer, nodes: Nodes, b: RecordingNode
) -> None:
    proxy = FaultyProxy(redis_server.port)
    async with proxy.listening(), running_nodes(f"redis://127.0.0.1:{proxy.port}/0") as others:
        others.prefix = nodes.prefix
        a = await others.start()
        for node in (a, b):
            await node.backend.subscribe("room", HISTORY)
        await a.backend.enter_nowait("room", announced("c1", "bob"))
        await b.backend.enter_nowait("room", Presence("c2", "carol"))
        proxy.to_server.clear()
        assert await a.backend.enter_nowait("room", announced("c3", "alice")) is True
        await wait_until(lambda: a.backend.outage != "")
        await others.crash(a)
        await wait_until(lambda: b.got_last("room", "bob left"))
        proxy.release()
        await asyncio.wait(proxy.tasks)
        assert await b.backend.members("room") == ["carol"]
    assert "alice joined" not in b.texts("room")
