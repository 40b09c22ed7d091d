"""Workers: started together, supervised, restarted, stopped within a bound."""

import asyncio
import functools
import logging
import math
import random
import re
import time
from typing import Any

import pytest

from falcon_pachinko import BackendUnavailable, RegistrationError, WebSocketConnectionManager
from falcon_pachinko.errors import ConfigurationError
from falcon_pachinko.workers import Backoff, WorkerController

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
