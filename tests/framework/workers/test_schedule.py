"""Schedules of workers: every() at a fixed rate, taken over by the next process that runs the worker."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from falcon_pachinko import BackendUnavailable, RegistrationError, WebSocketConnectionManager
from falcon_pachinko.errors import ConfigurationError
from falcon_pachinko.workers import Backoff, WorkerController, every

from ..support.backends import wait_until
from ..support.chat_cluster import ChatCluster, running_chat
from ..support.redis_servers import RedisServer, running_redis

SECONDS = 0.2
WAIT_SECONDS = 10.0

Controllers = Callable[[WebSocketConnectionManager], WorkerController]


@pytest.fixture
async def controllers() -> AsyncIterator[Controllers]:
    """Create controllers that end with the test."""
    created: list[WorkerController] = []

    def create(manager: WebSocketConnectionManager) -> WorkerController:
        restart = Backoff(base_seconds=0.001, cap_seconds=0.001)
        created.append(WorkerController(manager=manager, restart=restart))
        return created[-1]

    yield create
    for controller in created:
        await controller.stop()


def now() -> float:
    return asyncio.get_running_loop().time()


async def record_ticks(ticks: list[float], seconds: float) -> None:
    async for _ in every(seconds):
        ticks.append(now())


async def test_without_a_lease_a_schedule_has_a_fixed_rate() -> None:
    start, number = now(), 0
    async for _ in every(SECONDS):
        number += 1
        assert -0.01 < now() - start - number * SECONDS < SECONDS / 2
        if number == 3:
            break
        await asyncio.sleep(SECONDS / 2)


async def test_a_slow_body_skips_ticks_and_keeps_the_rate() -> None:
    start, ticks = now(), []
    async for _ in every(SECONDS):
        ticks.append(now() - start)
        if len(ticks) == 1:
            await asyncio.sleep(2.5 * SECONDS)
        if len(ticks) == 3:
            break
    assert ticks == [pytest.approx(n * SECONDS, abs=SECONDS / 3) for n in (1, 3.5, 4)]


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_an_interval_must_be_positive_and_finite(seconds: float) -> None:
    with pytest.raises(
        ConfigurationError, match=r"seconds is .*: it must be above zero and finite"
    ):
        every(seconds)


async def test_a_restarted_worker_continues_its_schedule(controllers: Controllers) -> None:
    ticks: list[float] = []
    starts: list[float] = []

    async def work() -> None:
        starts.append(now())
        if len(starts) == 1:
            asyncio.get_running_loop().call_later(SECONDS / 2, fail.set)
        async with asyncio.TaskGroup() as group:
            group.create_task(record_ticks(ticks, SECONDS))
            await fail.wait()
            fail.clear()
            raise ZeroDivisionError

    fail = asyncio.Event()
    controller = controllers(WebSocketConnectionManager())
    await controller.start(work, once_per_cluster=True)
    await wait_until(lambda: bool(ticks))
    assert len(starts) == 2
    assert -0.01 < ticks[0] - starts[0] - SECONDS < SECONDS / 2 - 0.02


async def test_loops_that_wait_at_the_same_time_need_names(controllers: Controllers) -> None:
    ticks: list[str] = []
    errors: list[BaseException] = []

    async def record(name: str) -> None:
        async for _ in every(SECONDS, name=name):
            ticks.append(name)

    async def two(names: tuple[str, str]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(record(name))
        except* RegistrationError as raised:
            errors.extend(raised.exceptions)

    controller = controllers(WebSocketConnectionManager())
    await controller.start(two, once_per_cluster=True, names=("", ""))
    await wait_until(lambda: len(errors) == 1)
    assert "give each a name" in str(errors[0])
    await controller.stop()
    await controller.start(two, once_per_cluster=True, names=("a", "b"))
    await wait_until(lambda: len(ticks) == 4)
    assert sorted(ticks) == ["a", "a", "b", "b"]


# Over Redis.


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def two_nodes(redis_server: RedisServer) -> AsyncIterator[ChatCluster]:
    async with running_chat(redis_server) as cluster:
        yield cluster


@pytest.mark.redis
async def test_the_next_process_continues_the_schedule(
    two_nodes: ChatCluster, controllers: Controllers
) -> None:
    interval_seconds = 1.5
    ticks: list[tuple[int, float]] = []

    async def work(number: int) -> None:
        async for _ in every(interval_seconds):
            ticks.append((number, now()))

    first, second = (controllers(two_nodes.manager(number)) for number in (0, 1))
    await first.start(work, once_per_cluster=True, number=0)
    await wait_until(lambda: len(ticks) == 1)
    await second.start(work, once_per_cluster=True, number=1)
    await asyncio.sleep(interval_seconds / 2)
    await first.stop()
    await wait_until(lambda: len(ticks) == 3)
    assert [number for number, _ in ticks] == [0, 1, 1]
    times = [time for _, time in ticks]
    assert times[1] - times[0] == pytest.approx(interval_seconds, abs=0.3)
    assert times[2] - times[0] == pytest.approx(2 * interval_seconds, abs=0.3)


@pytest.mark.redis
async def test_an_outage_at_a_tick_delays_it_and_does_not_restart_the_worker(
    two_nodes: ChatCluster,
    controllers: Controllers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    ticks: list[float] = []
    starts: list[bool] = []

    async def work() -> None:
        starts.append(True)
        await record_ticks(ticks, SECONDS)

    backend = two_nodes.manager(0).backend
    tick, failures = backend.tick, iter(range(2))

    async def fail_twice(*args: object) -> float:
        if next(failures, None) is not None:
            raise BackendUnavailable("unplugged by the test")
        return await tick(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "tick", fail_twice)
    await controllers(two_nodes.manager(0)).start(work, once_per_cluster=True)
    await wait_until(lambda: len(ticks) == 2)
    assert starts == [True]
    assert caplog.text.count("unplugged by the test; retrying") == 2
