"""Pub/sub connections: reconnection, invalid messages, slow reading."""

import asyncio
import itertools

import pytest

from falcon_pachinko import BackendUnavailable

from ...support.backends import Nodes, RecordingNode, text, wait_available, wait_until
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


async def test_a_node_that_was_disconnected_for_slow_reading_gets_all_messages(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    for node in (a, b):
        await node.backend.subscribe("room", None)
    redis_server.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1 1 1")
    for number in range(5):
        try:
            await a.backend.publish_nowait("room", text(str(number) + "x" * 100_000))
        except BackendUnavailable:
            await wait_available(a)
    redis_server.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
    await wait_available(a, b)
    await b.backend.publish_nowait("room", text("9"))
    await wait_until(lambda: a.got_last("room", "9") and b.got_last("room", "9"))
    assert a.texts("room") == b.texts("room")
    assert [data[0] for data in a.texts("room")] == sorted({data[0] for data in a.texts("room")})


async def test_an_invalid_message_is_logged_and_dropped(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode, caplog: pytest.LogCaptureFixture
) -> None:
    await a.backend.subscribe("room", None)
    for invalid in ("", "x", "a:b:c\n\n", "{\n", "e:1:0\n{bad json\nx"):
        redis_server.command("PUBLISH", a.redis.client.channel("{room}"), invalid)
    await a.backend.publish_nowait("room", text("valid"))
    await wait_until(lambda: a.got_last("room", "valid"))
    assert a.backend.outage == ""
    assert "is invalid and was dropped" in caplog.text


async def test_a_room_that_is_subscribed_during_a_reconnection_receives_messages(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    rooms = (f"room{number}" for number in itertools.count())
    loop = asyncio.get_running_loop()
    subscribed = []
    for _ in range(8):
        redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        deadline = loop.time() + 0.15
        while loop.time() < deadline:
            subscribed.append(next(rooms))
            await a.backend.subscribe(subscribed[-1], None)
            await asyncio.sleep(0.002)
    await wait_available(a)
    for room in subscribed:
        await a.backend.publish_nowait(room, text("received"))
    await wait_until(lambda: all(a.got_last(room, "received") for room in subscribed))


async def test_no_subscription_goes_on_after_the_loss_of_a_connection(a: RecordingNode) -> None:
    cancellations = 0

    async def subscribe() -> None:  # as redis-py in Python 3.11, which may swallow a cancellation
        nonlocal cancellations
        while cancellations < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1

    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    failure.set_exception(ConnectionError("lost"))
    with pytest.raises(ConnectionError, match="lost"):
        await a.redis.pubsub.wait_or_fail(subscribe(), failure)
    assert cancellations == 2
