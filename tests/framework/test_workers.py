"""Workers: started together, supervised, stopped within a bound, once per process or once per cluster."""

import asyncio
import functools
import logging
import math
import random
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import BackendUnavailable, RegistrationError, WebSocketConnectionManager
from falcon_pachinko.errors import ConfigurationError, LeaseLost
from falcon_pachinko.workers import Backoff, WorkerController

from .support.backends import wait_until
from .support.chat_cluster import ChatCluster, message, received, running_chat
from .support.redis_servers import running_redis

WAIT_SECONDS = 5.0


async def run_forever(**context: Any) -> None:
    await asyncio.Event().wait()


async def test_each_worker_gets_the_whole_context() -> None:
    contexts: list[Any] = []

    async def one(color: str, number: int) -> None:
        contexts.append((color, number))

    async def two(**context: Any) -> None:
        contexts.append(context)

    controller = WorkerController()
    await controller.start(one, two, color="red", number=7)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert contexts == [("red", 7), {"color": "red", "number": 7}]


async def test_stop_cancels_workers_and_waits_for_their_end() -> None:
    ended = []

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    controller = WorkerController()
    await controller.start(cleans_up, run_forever)
    await asyncio.sleep(0)
    await controller.stop()
    assert ended == [True]
    assert controller.tasks == set()
    await controller.stop()


async def test_stop_waits_for_a_limited_time(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    controller = WorkerController(stop_seconds=0.05)
    await controller.start(stubborn)
    await asyncio.sleep(0)
    tasks = set(controller.tasks)
    await controller.stop()
    assert "stubborn did not end within 0.05 s" in caplog.text
    release.set()
    await asyncio.wait(tasks, timeout=WAIT_SECONDS)


async def test_a_death_is_logged_and_reported_at_once(caplog: pytest.LogCaptureFixture) -> None:
    died = asyncio.Event()

    async def fails() -> None:
        raise ZeroDivisionError

    controller = WorkerController(on_death=died.set)
    await controller.start(fails, run_forever)
    await asyncio.wait_for(died.wait(), WAIT_SECONDS)
    (record,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "fails died" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    await controller.stop()


@pytest.mark.parametrize("once_per_cluster", [False, True], ids=["each process", "once"])
async def test_system_exit_in_a_worker_is_a_death_and_does_not_stop_the_event_loop(
    once_per_cluster: bool, caplog: pytest.LogCaptureFixture
) -> None:
    died = asyncio.Event()

    async def exits() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    controller = WorkerController(on_death=died.set, manager=WebSocketConnectionManager())
    await controller.start(exits, once_per_cluster=once_per_cluster)
    await asyncio.wait_for(died.wait(), WAIT_SECONDS)
    (record,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "exits died" in record.getMessage()
    await controller.stop()


async def test_a_worker_that_returns_stops_nothing() -> None:
    died = asyncio.Event()

    async def once() -> None: ...

    controller = WorkerController(on_death=died.set)
    await controller.start(once)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert controller.tasks == set()
    assert not died.is_set()


async def test_an_unrequested_cancellation_is_a_death() -> None:
    died = asyncio.Event()

    async def fails() -> None:
        raise asyncio.CancelledError

    controller = WorkerController(on_death=died.set)
    await controller.start(fails)
    await asyncio.wait_for(died.wait(), WAIT_SECONDS)


async def test_a_failure_while_stopping_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    died = asyncio.Event()

    async def fails_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    controller = WorkerController(on_death=died.set)
    await controller.start(fails_at_the_end)
    await asyncio.sleep(0)
    await controller.stop()
    assert "fails_at_the_end died" in caplog.text
    assert not died.is_set()


async def test_a_worker_may_be_a_partial_function() -> None:
    records = []

    async def record(text: str, number: int) -> None:
        records.append((text, number))

    controller = WorkerController()
    await controller.start(functools.partial(record, "x"), number=7)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert records == [("x", 7)]


def not_async() -> None: ...


async def takes_nothing() -> None: ...


@pytest.mark.parametrize(
    ("worker", "problem"),
    [
        (not_async, "not a coroutine function"),
        (None, "not a coroutine function"),
        (takes_nothing, "context"),
    ],
)
async def test_an_invalid_worker_is_refused_and_none_is_started(worker: Any, problem: str) -> None:
    controller = WorkerController()
    with pytest.raises(RegistrationError, match=problem):
        await controller.start(run_forever, worker, color="red")
    assert controller.tasks == set()


async def test_a_dead_worker_restarts_if_that_is_configured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    died, restarted = asyncio.Event(), asyncio.Event()
    starts: list[str] = []

    async def recovers(color: str) -> None:
        starts.append(color)
        if len(starts) == 1:
            raise ZeroDivisionError
        if len(starts) == 2:
            raise asyncio.CancelledError
        restarted.set()
        await asyncio.Event().wait()

    controller = WorkerController(
        on_death=died.set, restart=Backoff(base_seconds=0.001, cap_seconds=0.001)
    )
    await controller.start(recovers, color="red")
    await asyncio.wait_for(restarted.wait(), WAIT_SECONDS)
    await controller.stop()
    assert starts == ["red"] * 3
    assert not died.is_set()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [r.exc_info and r.exc_info[0] for r in errors] == [
        ZeroDivisionError,
        asyncio.CancelledError,
    ]
    for record in errors:
        assert re.search(r"recovers died; restarting in 0\.00\d s", record.getMessage())


@pytest.fixture
def ceilings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the ceiling of each random delay, which is zero instead."""
    ceilings: list[float] = []

    def draw(low: float, high: float) -> float:
        assert low == 0
        ceilings.append(high)
        return low

    monkeypatch.setattr(random, "uniform", draw)
    return ceilings


async def test_the_ceiling_doubles_with_each_death_up_to_the_cap(ceilings: list[float]) -> None:
    async def fails() -> None:
        if len(ceilings) < 6:
            raise ZeroDivisionError

    controller = WorkerController(restart=Backoff(base_seconds=0.5, cap_seconds=5))
    await controller.start(fails)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert ceilings == [0.5, 1, 2, 4, 5, 5]


async def test_a_long_run_resets_the_ceiling(
    ceilings: list[float],
) -> None:
    backoff = Backoff(base_seconds=0.5, cap_seconds=5, reset_seconds=0.05)

    async def fails() -> None:
        if len(ceilings) == 3:
            await asyncio.sleep(2 * backoff.reset_seconds)
        if len(ceilings) < 5:
            raise ZeroDivisionError

    controller = WorkerController(restart=backoff)
    await controller.start(fails)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert ceilings == [0.5, 1, 2, 0.5, 1]


async def test_each_worker_has_its_own_ceiling(ceilings: list[float]) -> None:
    async def fails(left: list[int]) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise ZeroDivisionError

    controller = WorkerController(restart=Backoff(base_seconds=1, cap_seconds=8))
    await controller.start(fails, left=[2])
    await controller.start(fails, left=[2])
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert sorted(ceilings) == [1, 1, 2, 2]


async def test_stop_does_not_wait_for_a_restart_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    is_waiting = asyncio.Event()

    def draw(low: float, high: float) -> float:
        is_waiting.set()
        return high

    starts = []

    async def fails() -> None:
        starts.append(True)
        raise ZeroDivisionError

    monkeypatch.setattr(random, "uniform", draw)
    controller = WorkerController(restart=Backoff(base_seconds=3600, cap_seconds=3600))
    await controller.start(fails)
    await asyncio.wait_for(is_waiting.wait(), WAIT_SECONDS)
    start = time.monotonic()
    await controller.stop()
    assert time.monotonic() - start < WAIT_SECONDS < controller.stop_seconds
    assert controller.tasks == set()
    assert starts == [True]


async def test_a_stopped_worker_does_not_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    starts = []

    async def fails_at_the_end() -> None:
        starts.append(True)
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    controller = WorkerController(restart=Backoff(base_seconds=0.001, cap_seconds=0.001))
    await controller.start(run_forever, fails_at_the_end)
    await asyncio.sleep(0)
    await controller.stop()
    assert controller.tasks == set()
    assert starts == [True]
    assert "fails_at_the_end died while being stopped" in caplog.text


# An outage of Redis.


@pytest.mark.parametrize("once_per_cluster", [False, True], ids=["each process", "once"])
async def test_a_worker_that_meets_an_outage_is_retried_and_the_server_goes_on(
    once_per_cluster: bool, ceilings: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    died, recovered = asyncio.Event(), asyncio.Event()

    async def publishes() -> None:
        if len(ceilings) < 3:
            raise BackendUnavailable("connection refused")
        recovered.set()
        await asyncio.Event().wait()

    controller = WorkerController(on_death=died.set, manager=WebSocketConnectionManager())
    await controller.start(publishes, once_per_cluster=once_per_cluster)
    await asyncio.wait_for(recovered.wait(), WAIT_SECONDS)
    await controller.stop()
    assert not died.is_set()
    assert ceilings == [1, 2, 4]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelno for record in warnings] == [logging.WARNING] * 3
    for record in warnings:
        assert re.search(
            r"publishes: Redis is unavailable: connection refused; restarting in \d\.\d{3} s",
            record.getMessage(),
        )
        assert record.exc_info is None


async def test_after_an_outage_another_exception_is_a_death(ceilings: list[float]) -> None:
    died = asyncio.Event()

    async def publishes() -> None:
        if not ceilings:
            raise BackendUnavailable("connection refused")
        raise ZeroDivisionError

    controller = WorkerController(on_death=died.set)
    await controller.start(publishes)
    await asyncio.wait_for(died.wait(), WAIT_SECONDS)
    await controller.stop()


async def test_an_outage_has_the_configured_delays(ceilings: list[float]) -> None:
    async def publishes() -> None:
        if len(ceilings) < 2:
            raise BackendUnavailable("connection refused")

    controller = WorkerController(restart=Backoff(base_seconds=0.5, cap_seconds=5))
    await controller.start(publishes)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert ceilings == [0.5, 1]


@given(
    base_seconds=st.floats(1e-9, 1e9),
    factor=st.floats(1, 1e9),
    attempt=st.integers(0, 10**6),
)
def test_a_delay_is_between_zero_and_its_ceiling(
    base_seconds: float, factor: float, attempt: int
) -> None:
    backoff = Backoff(base_seconds=base_seconds, cap_seconds=base_seconds * factor)
    ceiling = backoff.cap_seconds
    if attempt < 64:
        ceiling = min(ceiling, base_seconds * 2**attempt)
    assert 0 <= backoff.delay_seconds(attempt) <= ceiling


@pytest.mark.parametrize(("attempt", "ceiling"), [(0, 1.0), (3, 8.0), (20, 30.0)])
def test_delays_are_uniformly_distributed(
    attempt: int, ceiling: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", random.Random(7).uniform)
    count = 20_000
    delays = sorted(Backoff().delay_seconds(attempt) / ceiling for _ in range(count))
    # Kolmogorov-Smirnov test: a uniform distribution stays below this distance in 99 of 100 cases.
    distance = max(abs(delay - (index + 0.5) / count) for index, delay in enumerate(delays))
    assert distance < 1.63 / math.sqrt(count)


@pytest.mark.parametrize("name", ["base_seconds", "cap_seconds", "reset_seconds"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_backoff_requires_positive_finite_times(name: str, value: float) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{name} is .*: it must be above zero and finite"
    ):
        Backoff(**{name: value})


def test_a_cap_below_the_base_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"cap_seconds is 1: it must not be below base_seconds"
    ):
        Backoff(base_seconds=2, cap_seconds=1)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_stop_requires_a_positive_finite_bound(value: float) -> None:
    with pytest.raises(
        ConfigurationError, match=r"stop_seconds is .*: it must be above zero and finite"
    ):
        WorkerController(stop_seconds=value)


@pytest.mark.parametrize("restart", [True, 5, Backoff])
def test_a_restart_that_is_not_a_backoff_is_refused(restart: Any) -> None:
    with pytest.raises(RegistrationError, match="give a Backoff"):
        WorkerController(restart=restart)


# Once per cluster.


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

    async def work(number: int) -> None:
        running.append(number)
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


async def test_once_per_cluster_requires_the_manager() -> None:
    async def work() -> None:
        """Do nothing."""

    with pytest.raises(RegistrationError, match="needs the manager"):
        await WorkerController().start(work, once_per_cluster=True)


async def test_a_worker_cannot_run_once_per_cluster_twice() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    controller = WorkerController(manager=WebSocketConnectionManager())
    with pytest.raises(RegistrationError, match="started twice"):
        await controller.start(work, functools.partial(work), once_per_cluster=True)
    await controller.start(work, once_per_cluster=True)
    with pytest.raises(RegistrationError, match="started twice"):
        await controller.start(work, once_per_cluster=True)
    await controller.stop()
    await controller.start(work, once_per_cluster=True)
    await controller.stop()
