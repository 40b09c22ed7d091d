"""Leases over Redis; the contract of backends has the rest."""

import asyncio
from typing import Any

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.lease import Lease
from falcon_pachinko.backends.redis.operations import Operation
from falcon_pachinko.backends.redis.script import ROOM_TTL_MS, SCHEDULE_INTERVALS

from ...support.backends import WAIT_SECONDS, Nodes, RecordingNode, disconnected
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


async def test_a_lease_can_neither_be_acquired_nor_renewed_during_an_outage(
    a: RecordingNode,
) -> None:
    lease = await a.backend.acquire("worker")
    assert isinstance(lease, Lease)
    expires = lease.expires
    async with disconnected(a):
        with pytest.raises(BackendUnavailable):
            await a.backend.acquire("other")
        with pytest.raises(BackendUnavailable):
            await a.backend.renew(lease)
        assert lease.expires == expires
    assert await a.backend.renew(lease)
    assert lease.expires > expires


async def take_tick(node: RecordingNode, lease: Lease, seconds: float) -> float:
    """Repeat a call during a recovery."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                return await node.backend.tick(lease, "", seconds)
            except BackendUnavailable:
                await asyncio.sleep(0.005)


async def renew(node: RecordingNode, lease: Lease) -> bool:
    """Repeat a renewal during a recovery."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                return await node.backend.renew(lease)
            except BackendUnavailable:
                await asyncio.sleep(0.005)


async def test_a_renewal_after_a_loss_of_data_restores_the_lease_and_its_schedule(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    lease = await a.backend.acquire("worker")
    assert isinstance(lease, Lease)
    assert await a.backend.tick(lease, "", 60.0) > 59.9
    await asyncio.sleep(0.3)
    redis_server.command("FLUSHALL")
    assert await renew(a, lease)
    assert isinstance(await b.backend.acquire("worker"), float)
    assert await take_tick(a, lease, 60.0) < 59.8


async def test_a_waiting_node_that_acquires_a_lease_after_a_loss_of_data_restores_the_schedule(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    lease = await a.backend.acquire("worker")
    assert isinstance(lease, Lease)
    assert await a.backend.tick(lease, "", 60.0) > 59.9
    assert isinstance(await b.backend.acquire("worker"), float)
    await asyncio.sleep(0.3)
    redis_server.command("FLUSHALL")
    successor = await b.backend.acquire("worker")
    assert isinstance(successor, Lease)
    assert await take_tick(b, successor, 60.0) < 59.8
    assert not await renew(a, lease)


@pytest.mark.parametrize("lost", ["acquire", "tick"])
async def test_an_operation_whose_reply_was_lost_is_repeated(
    a: RecordingNode, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = a.redis.pipeline.call

    async def lose_reply(operation: Operation[Any]) -> Any:
        result = await call(operation)
        if operation.request[0] == lost:
            monkeypatch.setattr(a.redis.pipeline, "call", call)
            raise BackendUnavailable("lost by the test")
        return result

    if lost == "acquire":
        monkeypatch.setattr(a.redis.pipeline, "call", lose_reply)
        with pytest.raises(BackendUnavailable):
            await a.backend.acquire("worker")
    lease = await a.backend.acquire("worker")
    assert isinstance(lease, Lease)
    assert await a.backend.tick(lease, "", 0.3) > 0
    await asyncio.sleep(0.35)
    if lost == "tick":
        monkeypatch.setattr(a.redis.pipeline, "call", lose_reply)
        with pytest.raises(BackendUnavailable):
            await a.backend.tick(lease, "", 0.3)
    assert await a.backend.tick(lease, "", 0.3) == 0
    assert await a.backend.tick(lease, "", 0.3) > 0


async def test_a_schedule_expires_after_a_few_intervals(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    lease = await a.backend.acquire("worker")
    assert isinstance(lease, Lease)
    key = f"{nodes.prefix}:{{%nodes}}:s:worker"
    await a.backend.tick(lease, "", 1.0)
    assert 0 < redis_server.command("PTTL", key) <= ROOM_TTL_MS
    await a.backend.tick(lease, "hourly", 3600.0)
    await a.backend.tick(lease, "", 1.0)
    assert 3_500_000 < redis_server.command("PTTL", key) / SCHEDULE_INTERVALS <= 3_600_000
