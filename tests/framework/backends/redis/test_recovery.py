"""Missed messages over Redis: what a node keeps while clients reconnect."""

from functools import partial

import pytest

from falcon_pachinko.history import History

from ...support.backends import RecordingNode, text, wait_until

pytestmark = pytest.mark.redis


def has_one_text(node: RecordingNode, room: str) -> bool:
    return len(node.texts(room)) == 1


async def test_the_buffers_of_a_node_are_counted_until_they_are_dropped(a: RecordingNode) -> None:
    history = History(messages=10, seconds=60.0)
    for room in ("one", "two"):
        await a.backend.subscribe(room, history)
        start = a.backend.position(room)
        assert start is not None
        await a.backend.publish_nowait(room, text("x" * 1000))
        await wait_until(partial(has_one_text, a, room))
        assert len(await a.backend.recover(room, [start]) or ()) == 1
    budget = a.redis.subscriptions.budget
    assert budget.size_bytes > 2000
    a.backend.unsubscribe("one")
    assert 1000 < budget.size_bytes < 4000
    # NOTE: the heartbeats drop a buffer that is not used.
    await wait_until(lambda: budget.size_bytes == 0)


async def test_the_messages_that_reconnecting_clients_share_are_freed_with_a_heartbeat(
    a: RecordingNode,
) -> None:
    await a.backend.subscribe("room", History(messages=10, seconds=60.0))
    start = a.backend.position("room")
    assert start is not None
    await a.backend.publish_nowait("room", text("x" * 1000))
    await wait_until(partial(has_one_text, a, "room"))
    budget = a.redis.subscriptions.budget
    assert len(await a.backend.recover("room", [start]) or ()) == 1
    assert budget.restored_bytes > 1000
    await wait_until(lambda: budget.restored_bytes == 0)
    assert budget.restored == {}


async def test_above_the_budget_of_a_node_the_oldest_messages_are_dropped(
    a: RecordingNode,
) -> None:
    await a.backend.subscribe("room", History(messages=100, seconds=60.0))
    budget = a.redis.subscriptions.budget
    budget.max_bytes = 10_000
    start = a.backend.position("room")
    assert start is not None
    for number in range(20):
        await a.backend.publish_nowait("room", text(f"{number:1000}"))
    await wait_until(lambda: len(a.texts("room")) == 20)
    assert await a.backend.recover("room", [start]) is None
    assert budget.size_bytes <= 10_000
    late = start._replace(offset=18)
    assert len(await a.backend.recover("room", [late]) or ()) == 2
