"""The life of a node: its start, outages, renewals and expiry, an orderly stop."""

import asyncio
import itertools
import time
from collections.abc import Sequence

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis.client import Request

from ...support.backends import (
    HISTORY,
    TIMING,
    WAIT_SECONDS,
    Nodes,
    RecordingNode,
    announced,
    text,
    wait_available,
    wait_for_result,
    wait_until,
)
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


async def test_a_node_starts_without_redis_and_connects_later(
    redis_server: RedisServer, nodes: Nodes
) -> None:
    redis_server.kill()
    a = await nodes.start()
    assert a.backend.outage
    await a.backend.subscribe("room", HISTORY)
    assert await a.backend.enter_nowait("room", announced("c1", "alice")) is True
    assert await a.backend.members("room") == ["alice"]
    redis_server.restart()
    await wait_available(a)
    await wait_for_result(lambda: a.backend.members("room"), ["alice"])
    await a.backend.publish_nowait("room", text("hello"))
    await wait_until(lambda: a.got_last("room", "hello"))
    assert a.resyncs == [("room", a.resyncs[0][1])]
    assert a.history_losses == []


async def test_a_frozen_server_is_noticed_in_time_and_nothing_is_lost_silently(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    await b.backend.subscribe("room", HISTORY)
    loop = asyncio.get_running_loop()
    redis_server.pause()
    try:
        start = loop.time()
        waiting = asyncio.create_task(
            wait_until(lambda: bool(a.backend.outage and b.backend.outage))
        )
        uncertain = [
            asyncio.ensure_future(a.backend.publish_nowait("room", text(f"uncertain {n}")))
            for n in range(3)
        ]
        outcomes = await asyncio.gather(*uncertain, return_exceptions=True)
        assert all(isinstance(outcome, BackendUnavailable) for outcome in outcomes)
        await waiting
        # NOTE: without traffic, a node checks four times within answer_seconds.
        assert loop.time() - start < 1.25 * TIMING.answer_seconds + 1.0
    finally:
        redis_server.resume()
    await wait_available(a, b)
    await a.backend.publish_nowait("room", text("after"))
    await wait_until(lambda: a.got_last("room", "after") and b.got_last("room", "after"))
    # NOTE: the server got the others, too, and skipped them after their deadline.
    assert a.texts("room") == b.texts("room") == ["after"]
    assert a.history_losses == b.history_losses == []


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_lost_connections_cause_no_loss_and_no_duplicates(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode, kind: str
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    published: list[str] = []
    with redis_server.connect() as client:
        for number in itertools.count():
            try:
                await a.backend.publish_nowait("room", text(str(number)))
                published.append(str(number))
            except BackendUnavailable:
                await wait_available(a)
            if number % 50 == 20 and number < 200:
                client.execute_command("CLIENT", "KILL", "TYPE", kind)
            if number >= 300 and published[-1] == str(number):
                break
    await wait_until(
        lambda: a.got_last("room", published[-1]) and b.got_last("room", published[-1])
    )
    for node in (a, b):
        received = node.texts("room")
        assert set(published) <= set(received)
        assert received == sorted(set(received), key=int)
        assert node.history_losses == []


async def test_a_node_with_constant_joins_and_leaves_recovers_from_an_outage(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    for number in range(300):
        await a.backend.subscribe(f"room{number}", None)
    continues = True

    async def join_and_leave() -> None:
        for number in itertools.count():
            if not continues:
                return
            presence = announced(f"c{number}", "alice")
            entered = a.backend.enter_nowait(f"room{number % 300}", presence)
            await asyncio.sleep(0)
            await entered
            await a.backend.leave_nowait(f"room{number % 300}", presence, grace=False)

    clients = asyncio.create_task(join_and_leave())
    redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await wait_until(lambda: a.backend.outage != "")
    await wait_available(a)
    continues = False
    await clients
    nothing: list[str] = []
    await wait_for_result(lambda: a.backend.rooms(""), nothing)


async def test_a_node_that_was_frozen_beyond_its_expiry_returns_with_its_users(
    nodes: Nodes, a: RecordingNode, b: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    await b.backend.enter_nowait("room", Presence("c2", "bob"))
    renewals, pending = a.redis.renewals, asyncio.get_running_loop().create_future()
    with monkeypatch.context() as patched:
        patched.setattr(renewals, "renew", lambda: pending)
        await wait_until(lambda: b.got_last("room", "alice left"))
        assert await b.backend.members("room") == ["bob"]
    pending.set_result(None)
    await wait_until(lambda: b.got_last("room", "alice joined"))
    await wait_available(a)
    assert await b.backend.members("room") == ["bob", "alice"]


async def test_an_expired_node_whose_reply_is_lost_returns_with_its_users(
    nodes: Nodes,
    a: RecordingNode,
    b: RecordingNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    await b.backend.enter_nowait("room", Presence("c2", "bob"))
    backend = a.redis
    execute, was_lost = backend.client.execute, asyncio.Event()

    async def lose_the_reply(operations: Sequence[Request]) -> list[object]:
        reply = await execute(operations)
        if any(operation[0] == "renew_room" for operation in operations):
            monkeypatch.undo()
            was_lost.set()
            raise ConnectionError("the reply is lost")
        return reply

    pending = asyncio.get_running_loop().create_future()
    with monkeypatch.context() as patched:
        patched.setattr(backend.renewals, "renew", lambda: pending)
        await wait_until(lambda: b.got_last("room", "alice left"))
    monkeypatch.setattr(backend.client, "execute", lose_the_reply)
    pending.set_result(None)
    await asyncio.wait_for(was_lost.wait(), WAIT_SECONDS)
    await wait_until(lambda: backend.outage != "")
    await wait_available(a)
    await wait_for_result(lambda: b.backend.members("room"), ["bob", "alice"])


async def test_a_stopping_node_leaves_grace_periods_to_the_others(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    await a.backend.enter_nowait("room", announced("c2", "bob"))
    for presence in (announced("c1", "alice"), announced("c2", "bob")):
        a.backend.leave_nowait("room", presence, grace=True)
    a.backend.unsubscribe("room")
    await nodes.stop(a)
    assert await b.backend.enter_nowait("room", announced("c3", "bob")) is False
    await wait_until(lambda: b.got_last("room", "alice left"))
    assert await b.backend.members("room") == ["bob"]
    assert "bob left" not in b.texts("room")


async def test_a_stopping_node_leaves_the_time_that_its_clients_were_asked_to_wait_to_the_others(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    alice, bob = announced("c1", "alice"), announced("c2", "bob")
    for presence in (alice, bob):
        await a.backend.enter_nowait("room", presence)
        presence.wait_seconds = 0.6
    await a.backend.leave_nowait("room", alice, grace=True)
    left = time.monotonic()
    a.backend.leave_nowait("room", bob, grace=True)  # not confirmed when the node stops
    await nodes.stop(a)
    await asyncio.sleep(0.5)
    assert await b.backend.enter_nowait("room", announced("c3", "bob")) is False
    await wait_until(lambda: b.got_last("room", "alice left"))
    assert time.monotonic() - left >= 0.6 + TIMING.grace_seconds
    assert await b.backend.members("room") == ["bob"]
    assert b.texts("room") == ["alice joined", "bob joined", "alice left"]


@pytest.mark.parametrize("name", ["n", "r:{node}"])
async def test_a_node_whose_own_keys_are_broken_renews_its_leases_and_expires_others(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, b: RecordingNode, name: str
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", HISTORY)
    await a.backend.enter_nowait("room", announced("c1", "alice"))
    await b.backend.enter_nowait("room", announced("c2", "bob"))
    key = f"{nodes.prefix}:{{%nodes}}:" + name.format(node=a.redis.node_id)
    redis_server.command("DEL", key)
    redis_server.command("RPUSH", key, "an element")
    await nodes.crash(b)
    await wait_until(lambda: a.got_last("room", "bob left"))
    assert await a.backend.members("room") == ["alice"]
    await wait_for_result(lambda: a.backend.rooms(""), ["room"])
    assert a.backend.outage == ""
