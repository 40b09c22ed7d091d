"""The memory backend: its rooms and timers end with their use."""

import asyncio
import gc
import tracemalloc

import pytest

from falcon_pachinko.backends.buffer import MESSAGE_OVERHEAD_BYTES
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.history import History
from falcon_pachinko.publication import Publication

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
    backend.publish_nowait("room", text("one"))
    backend.unsubscribe("room")
    assert "room" in backend.rooms_by_name
    await wait_until(lambda: backend.rooms_by_name == {})


async def test_a_new_subscription_keeps_a_room_that_would_be_removed(
    backend: MemoryBackend,
) -> None:
    await backend.subscribe("room", History(seconds=0.05))
    backend.publish_nowait("room", text("one"))
    position = backend.position("room")
    backend.unsubscribe("room")
    await backend.subscribe("room", History(seconds=0.05))
    await asyncio.sleep(0.15)
    assert backend.position("room") == position


async def test_a_stopped_backend_publishes_nothing_and_accepts_late_calls(
    node: RecordingNode, backend: MemoryBackend
) -> None:
    await backend.subscribe("room", History(seconds=0.05))
    await backend.enter_nowait("room", announced("c1", "alice"))
    await backend.leave_nowait("room", announced("c1", "alice"), grace=True)
    await backend.stop()
    backend.unsubscribe("room")
    assert await backend.leave_nowait("room", Presence("c1", "alice"), grace=False) is False
    await asyncio.sleep(0.15)
    assert node.texts("room") == ["alice joined"]


async def test_expired_messages_are_freed_while_the_room_is_in_use(backend: MemoryBackend) -> None:
    await backend.subscribe("room", History(seconds=0.05))
    backend.publish_nowait("room", text("one"))
    backend.publish_nowait("room", text("two"))
    position = backend.position("room")
    await wait_until(lambda: backend.budget.size_bytes == 0)
    assert backend.position("room") == position
    assert await backend.recover("room", [position] if position else []) == []


async def test_the_messages_that_reconnecting_clients_share_are_freed_by_the_sweep(
    backend: MemoryBackend,
) -> None:
    await backend.subscribe("room", History(messages=10, seconds=0.2))
    start = backend.position("room")
    assert start is not None
    await backend.publish_nowait("room", text("x" * 1000))
    assert len(await backend.recover("room", [start]) or ()) == 1
    assert backend.budget.restored_bytes > 1000
    await wait_until(lambda: backend.budget.restored_bytes == 0)
    assert backend.budget.restored == {}


async def test_a_room_whose_history_was_dropped_for_another_is_removed() -> None:
    backend = MemoryBackend(history_bytes=10_000)
    backend.node = node = RecordingNode(backend)
    for name in ("first", "second"):
        await backend.subscribe(name, History())
        backend.publish_nowait(name, text("x" * 6_000))
        backend.unsubscribe(name)
    assert list(backend.rooms_by_name) == ["second"]
    await backend.subscribe("third", History())
    backend.publish_nowait("third", text("y" * 20_000))
    assert node.texts("third") == ["y" * 20_000]
    assert backend.budget.size_bytes < 10_000
    await backend.stop()


async def test_a_user_may_leave_while_there_is_no_space_for_the_message() -> None:
    backend = MemoryBackend(Timing(grace_seconds=0), history_bytes=1_000)
    backend.node = node = RecordingNode(backend)
    await backend.subscribe("room", History())
    await backend.enter_nowait("room", announced("c1", "alice"))
    backend.unsubscribe("room")
    await backend.leave_nowait("room", announced("c1", "alice"), grace=False)
    assert node.texts("room") == ["alice joined", "alice left"]
    assert backend.rooms_by_name == {}


async def test_a_message_takes_at_most_its_size_and_300_bytes() -> None:
    backend = MemoryBackend()
    backend.node = EncodingNode(backend)
    await backend.subscribe("room", History(messages=10_000, room_bytes=64 * 1024 * 1024))
    excluded = ("0123456789abcdef",)
    for size, connections in ((20, ()), (200, ()), (3_000, ()), (20_000, ()), (200, excluded)):
        count = 500
        message = {"type": "serverNewMessage", "payload": {"text": "x" * size}}
        publication = Publication.to_room(message, connections)
        stored_bytes = len(publication.encode())
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(count):
                await backend.publish_nowait("room", Publication.to_room(message, connections))
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert used / count <= stored_bytes + 300
        assert used / count <= stored_bytes + MESSAGE_OVERHEAD_BYTES
    await backend.stop()


class EncodingNode(RecordingNode):
    """A node that builds what the clients of every server need, and keeps nothing."""

    def deliver(self, room: str, publication: Publication) -> None:
        publication.make_frame()
        assert publication.event
