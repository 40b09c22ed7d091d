"""Workers that run once per cluster: one process holds the lease, and a replaced one publishes nothing more."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from falcon_pachinko import BackendUnavailable, WebSocketConnectionManager
from falcon_pachinko.errors import LeaseLost
from falcon_pachinko.workers import WorkerController

from ..support.backends import wait_until
from ..support.chat_cluster import ChatCluster, message, received, running_chat
from ..support.redis_servers import running_redis

WAIT_SECONDS = 5.0


@pytest.fixture
async def two_nodes() -> AsyncIterator[ChatCluster]:
    with running_redis() as server:
        async with running_chat(server) as cluster:
            yield cluster


@pytest.mark.redis
async def test_a_worker_runs_on_one_node_until_another_one_takes_over(
    two_nodes: ChatCluster,
) -> None:
    running: list[int] = []

    async def work(number: int) -> None:
        running.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            running.remove(number)

    controllers = [WorkerController(manager=two_nodes.manager(number)) for number in (0, 1)]
    try:
        for number, controller in enumerate(controllers):
            await controller.start(work, once_per_cluster=True, number=number)
        await wait_until(lambda: len(running) == 1)
        [first] = running
        assert await two_nodes.manager(first).get_rooms_by_prefix("") == []
        await controllers[first].stop()
        await wait_until(lambda: running == [1 - first])
    finally:
        for controller in controllers:
            await controller.stop()
    assert running == []


@pytest.mark.redis
async def test_a_worker_that_cannot_renew_its_lease_is_replaced_and_cancelled(
    two_nodes: ChatCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[int] = []
    starts: list[int] = []

    async def work(number: int) -> None:
        running.append(number)
        starts.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            running.remove(number)

    async def fail(lease: object) -> bool:
        raise BackendUnavailable("frozen by the test")

    controllers = [WorkerController(manager=two_nodes.manager(number)) for number in (0, 1)]
    try:
        await controllers[0].start(work, once_per_cluster=True, number=0)
        await wait_until(lambda: running == [0])
        await controllers[1].start(work, once_per_cluster=True, number=1)
        monkeypatch.setattr(two_nodes.manager(0).backend, "renew", fail)
        await wait_until(lambda: running == [1])
        assert starts == [0, 1], "the node that cannot renew leaves the lease to the other one"
    finally:
        for controller in controllers:
            await controller.stop()


@pytest.mark.redis
async def test_a_replaced_worker_cannot_publish_while_it_ends(
    two_nodes: ChatCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []
    manager = two_nodes.manager(0)
    client = await two_nodes.connect(1, "/chat/alice")

    async def lose(lease: object) -> bool:
        return False

    async def work() -> None:
        if refused:
            return
        try:
            await asyncio.Event().wait()
        finally:
            calls = (
                manager.broadcast_to_room("lobby", message(number=1)),
                manager.send_to_user("alice", message(number=2)),
                manager.close_room("lobby"),
            )
            for number, call in enumerate(calls):
                try:
                    await call
                except LeaseLost:
                    refused.append(number)

    controller = WorkerController(manager=manager)
    monkeypatch.setattr(manager.backend, "renew", lose)
    await controller.start(work, once_per_cluster=True)
    await wait_until(lambda: refused == [0, 1, 2])
    await controller.stop()
    await manager.broadcast_to_room("lobby", "marker")
    assert await received(client, 1) == ["marker"]


@pytest.mark.redis
async def test_a_task_of_a_worker_cannot_publish_after_the_release(two_nodes: ChatCluster) -> None:
    manager = two_nodes.manager(0)
    has_ended = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def publish_late() -> None:
        await has_ended.wait()
        await manager.broadcast_to_room("lobby", "late")

    async def work() -> None:
        tasks.append(asyncio.create_task(publish_late()))
        await asyncio.Event().wait()

    controller = WorkerController(manager=manager)
    await controller.start(work, once_per_cluster=True)
    await wait_until(lambda: len(tasks) == 1)
    await controller.stop()
    has_ended.set()
    with pytest.raises(LeaseLost):
        await tasks[0]


async def test_a_worker_that_is_stopped_may_publish_while_it_ends() -> None:
    has_published = []
    manager = WebSocketConnectionManager()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await manager.broadcast_to_room("lobby", "stopped")
            has_published.append(True)

    controller = WorkerController(manager=manager)
    await controller.start(work, once_per_cluster=True)
    await asyncio.sleep(0.01)
    await controller.stop()
    assert has_published


async def test_the_context_of_a_worker_may_have_any_names() -> None:
    got: list[str] = []

    async def work(backend: str, name: str, worker: str) -> None:
        got.extend((backend, name, worker))

    controller = WorkerController(manager=WebSocketConnectionManager())
    await controller.start(work, once_per_cluster=True, backend="a", name="b", worker="c")
    await wait_until(lambda: got == ["a", "b", "c"])
    await controller.stop()


async def test_with_the_memory_backend_a_worker_runs() -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    controller = WorkerController(manager=WebSocketConnectionManager())
    await controller.start(work, once_per_cluster=True)
    async with asyncio.timeout(WAIT_SECONDS):
        await done.wait()
    await controller.stop()
