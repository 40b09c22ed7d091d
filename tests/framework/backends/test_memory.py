"""The memory backend: its rooms and timers end with their use."""

import asyncio

import pytest

from falcon_pachinko.backends.base import Presence, Timing
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.history import History

from ..support.backends import RecordingNode, announced, text, wait_until


@pytest.fixture
def node() -> RecordingNode:
    backend = MemoryBackend(Timing(grace_seconds=0.05))
    backend.node = node = RecordingNode(backend)
    return node


@pytest.fixture
def backend(node: RecordingNode) -> MemoryBackend:
    assert isinstance(node.backend, MemoryBackend)
    return node.backend


async def test_it_serves_one_process_and_is_always_available(backend: MemoryBackend) -> None:
    await backend.start()
    assert backend.single
    assert backend.outage == ""
    assert backend.node_id == ""


async def test_a_room_is_removed_with_its_last_subscription(backend: MemoryBackend) -> None:
    await backend.subscribe("room", None)
    await backend.subscribe("room", None)
    backend.unsubscribe("room")
    assert "room" in backend.rooms_by_name
    backend.unsubscribe("room")
    assert backend.rooms_by_name == {}


async def test_a_room_with_a_history_is_removed_when_that_has_expired(
    backend: MemoryBackend,
) -> None:
    await backend.subscribe("room", History(seconds=0.05))
    backend.publish("room", text("one"))
    backend.unsubscribe("room")
    assert "room" in backend.rooms_by_name
    await wait_until(lambda: backend.rooms_by_name == {})


async def test_a_new_subscription_keeps_a_room_that_would_be_removed(
    backend: MemoryBackend,
) -> None:
    await backend.subscribe("room", History(seconds=0.05))
    backend.publish("room", text("one"))
    position = backend.position("room")
    backend.unsubscribe("room")
    await backend.subscribe("room", History(seconds=0.05))
    await asyncio.sleep(0.15)
    assert backend.position("room") == position


async def test_a_leave_message_is_published_after_the_grace_period(node: RecordingNode) -> None:
    backend = node.backend
    await backend.subscribe("room", None)
    await backend.enter("room", announced("c1", "alice"))
    await backend.leave("room", announced("c1", "alice"), grace=True)
    assert node.texts("room") == ["alice joined"]
    await wait_until(lambda: node.texts("room") == ["alice joined", "alice left"])


async def test_a_stopped_backend_publishes_nothing_and_accepts_late_calls(
    node: RecordingNode, backend: MemoryBackend
) -> None:
    await backend.subscribe("room", History(seconds=0.05))
    await backend.enter("room", announced("c1", "alice"))
    await backend.leave("room", announced("c1", "alice"), grace=True)
    await backend.stop()
    backend.unsubscribe("room")
    assert await backend.leave("room", Presence("c1", "alice"), grace=False) is False
    await asyncio.sleep(0.15)
    assert node.texts("room") == ["alice joined"]
