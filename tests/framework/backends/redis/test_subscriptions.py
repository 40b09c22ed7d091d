"""Room subscriptions: gaps, lost data, resynchronization after an outage."""

import asyncio
from typing import Any

import pytest

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis.fetched import Fetched
from falcon_pachinko.backends.redis.script import MIN_STREAM_MESSAGES
from falcon_pachinko.history import Position

from ...support.backends import (
    HISTORY,
    WAIT_SECONDS,
    Nodes,
    RecordingNode,
    announced,
    disconnected,
    text,
    wait_available,
    wait_until,
)
from ...support.redis_servers import RedisServer

pytestmark = pytest.mark.redis


async def test_after_a_data_loss_a_new_epoch_begins_and_all_nodes_are_notified(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    for node, connection in ((a, "c1"), (b, "c2")):
        await node.backend.subscribe("room", HISTORY)
        await node.backend.enter_nowait("room", announced(connection, "alice"))
    for number in range(3):
        await a.backend.publish_nowait("room", text(str(number)))
    await wait_until(lambda: a.got_last("room", "2") and b.got_last("room", "2"))
    before = b.backend.position("room")
    assert before is not None
    redis_server.restart()
    await wait_until(lambda: bool(a.history_losses and b.history_losses))
    await wait_available(a, b)
    assert await a.backend.members("room") == ["alice"]
    assert await b.backend.recover("room", [before]) is None
    await a.backend.publish_nowait("room", text("again"))
    await wait_until(lambda: b.got_last("room", "again"))
    now = b.backend.position("room")
    assert now is not None
    assert now.epoch != before.epoch
    assert "alice left" not in b.texts("room")


async def test_an_offset_behind_that_of_the_nodes_begins_a_new_epoch(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    for number in range(5):
        await a.backend.publish_nowait("room", text(str(number)))
    await wait_until(lambda: a.got_last("room", "4"))
    redis_server.command("HSET", f"{nodes.prefix}:{{room}}:m", "o", 2)
    redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await wait_until(lambda: len(a.history_losses) == 1)
    await wait_available(a)
    await a.backend.publish_nowait("room", text("again"))
    await wait_until(lambda: a.got_last("room", "again"))


async def test_a_gap_beyond_the_stream_is_reported_and_the_rest_is_delivered(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    channel = a.redis.client.channel("{room}")
    # NOTE: the server unsubscribes the room without the node noticing.
    pubsub = a.redis.pubsub
    pubsub.send(pubsub.connections[""], "SUBSCRIBE", "another")
    pubsub.confirmations.expect_end(channel, lambda: None)
    pubsub.send(pubsub.connections[""], "UNSUBSCRIBE", channel)
    await wait_until(lambda: not pubsub.confirmations.unsubscribing)
    # NOTE: a renewal between the messages would find the gap while the stream still has all of it.
    assert a.redis.renewing is not None
    a.redis.renewing.cancel()
    for number in range(400):
        await b.backend.publish_nowait("room", text(str(number)))
    redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await wait_until(lambda: a.got_last("room", "399"))
    first = 400 - MIN_STREAM_MESSAGES
    assert a.history_losses == [("room", Position(start.epoch, first))]
    assert a.texts("room") == [str(number) for number in range(first, 400)]


async def test_the_last_message_of_a_room_reaches_a_disconnected_node(
    nodes: Nodes, a: RecordingNode, b: RecordingNode
) -> None:
    for node, connection in ((a, announced("c1", "alice")), (b, Presence("c2", "bob"))):
        await node.backend.subscribe("room", None)
        await node.backend.enter_nowait("room", connection)
    async with disconnected(b):
        await a.backend.publish_nowait("room", text("last message"))
        await a.backend.leave_nowait("room", announced("c1", "alice"), grace=False)
        a.backend.unsubscribe("room")
        await wait_until(lambda: not a.redis.pubsub.confirmations.unsubscribing)
        await a.backend.members("room")  # so that the operation to unsubscribe has been executed
    await wait_until(lambda: "last message" in b.texts("room"))
    b.backend.unsubscribe("room")
    await b.backend.leave_nowait("room", Presence("c2", "bob"), grace=False)
    await wait_until(lambda: all(not key.endswith(":p") for key in nodes.stored_keys()))


async def test_a_room_whose_keys_are_lost_begins_a_new_epoch(
    redis_server: RedisServer, nodes: Nodes, a: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    await a.backend.publish_nowait("room", text("lost"))
    await wait_until(lambda: a.got_last("room", "lost"))
    redis_server.command("DEL", f"{nodes.prefix}:{{room}}:m", f"{nodes.prefix}:{{room}}:s")
    assert await asyncio.wait_for(a.backend.recover("room", [start]), WAIT_SECONDS) is None
    assert [room for room, _ in a.history_losses] == ["room"]
    await a.backend.publish_nowait("room", text("again"))
    await wait_until(lambda: a.got_last("room", "again"))


async def test_a_client_that_reconnects_during_an_outage_gets_missed_messages_after_it(
    redis_server: RedisServer, a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    await a.backend.publish_nowait("room", text("missed"))
    redis_server.pause()
    try:
        await wait_until(lambda: bool(a.backend.outage and b.backend.outage))
        for node in (a, b):
            await node.backend.subscribe("room", HISTORY)
        with pytest.raises(BackendUnavailable):
            await a.backend.recover("room", [start])
    finally:
        redis_server.resume()
    await wait_until(lambda: bool(a.resyncs and b.resyncs))
    for node in (a, b):
        missed = node.backend.recover_local("room", [start])
        assert [publication.data for publication in missed or ()] == [b"missed"]


async def test_after_a_failed_resync_messages_are_not_recorded(
    a: RecordingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a.backend.subscribe("room", HISTORY)
    subscriptions = a.redis.subscriptions
    stream = subscriptions.streams["room"]
    stream.needs_resync = True

    async def fail(*args: Any, **kwargs: Any) -> Fetched:
        raise BackendUnavailable("refused by the test")

    with monkeypatch.context() as patched:
        patched.setattr(subscriptions.fetcher, "fetch", fail)
        with pytest.raises(BackendUnavailable):
            await subscriptions.resync("room", stream)
    await a.backend.publish_nowait("room", text("hello"))
    await wait_until(lambda: a.got_last("room", "hello"))
    assert stream.recorded is None
    await subscriptions.resync("room", stream)
    assert stream.recorded is None
    assert [room for room, _ in a.resyncs] == ["room"]


async def test_a_fetch_for_an_ended_subscription_does_not_affect_the_next_one(
    a: RecordingNode, b: RecordingNode
) -> None:
    await a.backend.subscribe("room", HISTORY)
    start = a.backend.position("room")
    assert start is not None
    # NOTE: a gap that Redis cannot fill is fetched again and again.
    early = text("early")
    early.number(Position(start.epoch, start.offset + 6), 7, shown=True)
    stream = a.redis.subscriptions.streams["room"]
    assert stream.receive(early)
    fetching = asyncio.create_task(a.redis.subscriptions.sync("room", stream))
    await asyncio.sleep(0)
    a.backend.unsubscribe("room")
    await a.backend.subscribe("room", HISTORY)
    for number in range(5):
        await b.backend.publish_nowait("room", text(str(number)))
    await wait_until(lambda: a.got_last("room", "4") and fetching.done())
    assert a.texts("room") == ["0", "1", "2", "3", "4"]


async def test_a_subscription_that_is_cancelled_while_it_starts_leaves_no_keys(
    nodes: Nodes, a: RecordingNode
) -> None:
    for number in range(50):
        starting = asyncio.ensure_future(a.backend.subscribe(f"room{number}", None))
        for _ in range(number % 12):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting})
        if not starting.cancelled():
            a.backend.unsubscribe(f"room{number}")
    await a.backend.subscribe("last", None)
    await wait_until(lambda: nodes.stored_keys() == ["{last}:m"])


async def test_concurrent_fetches_are_not_taken_for_a_gap(
    a: RecordingNode, b: RecordingNode
) -> None:
    backend = a.redis
    fetcher, pubsub = backend.subscriptions.fetcher, backend.pubsub
    fetch, on_message, may_return = fetcher.fetch, pubsub.on_message, asyncio.Event()
    replies: list[Fetched] = []
    held_back: list[tuple[bytes, bytes]] = []

    async def fetch_slowly(*args: Any, **kwargs: Any) -> Fetched:
        reply = await fetch(*args, **kwargs)
        replies.append(reply)
        await may_return.wait()
        return reply

    fetcher.fetch = fetch_slowly  # type: ignore[method-assign]
    pubsub.on_message = lambda *message: held_back.append(message)
    first = asyncio.create_task(backend.subscribe("room", None))
    await wait_until(lambda: len(replies) == 1)
    await b.backend.subscribe("room", None)
    await b.backend.publish_nowait("room", text("0"))
    second = asyncio.create_task(backend.subscribe("room", HISTORY))
    await wait_until(lambda: len(replies) == 2 and bool(held_back))
    fetcher.fetch = fetch  # type: ignore[method-assign]
    may_return.set()
    await asyncio.gather(first, second)
    pubsub.on_message = on_message
    for message in held_back:
        on_message(*message)
    await b.backend.publish_nowait("room", text("1"))
    await wait_until(lambda: a.got_last("room", "1"))
    assert a.texts("room") == ["0", "1"]
    assert a.history_losses == []


async def test_a_failover_that_lost_messages_is_noticed_despite_a_join(
    redis_server: RedisServer, a: RecordingNode
) -> None:
    backend = a.redis
    await backend.subscribe("room", HISTORY)
    for number in range(5):
        await backend.publish_nowait("room", text(f"{number}"))
    await wait_until(lambda: a.got_last("room", "4"))
    start = backend.position("room")
    assert start is not None
    redis_server.pause()
    try:
        await wait_until(lambda: backend.outage != "")
        await backend.subscribe("room", HISTORY)
    finally:
        redis_server.resume()
        # The data of a replica that was two messages behind.
        redis_server.command("HSET", f"{backend.client.prefix}:{{room}}:m", "o", 3)
        redis_server.command("XTRIM", f"{backend.client.prefix}:{{room}}:s", "MINID", "99")
    await wait_available(a)
    await wait_until(lambda: bool(a.history_losses))
    position = backend.position("room")
    assert position is not None
    assert position.epoch != start.epoch
    await backend.publish_nowait("room", text("received"))
    await wait_until(lambda: a.got_last("room", "received"))
