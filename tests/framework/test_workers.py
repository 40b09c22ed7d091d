"""Workers: started together, watched, stopped within a bound."""

import asyncio
import functools
import logging
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import falcon_pachinko
from falcon_pachinko import RegistrationError
from falcon_pachinko.workers import Backoff, WorkerController

from .support.servers import free_port

WAIT_SECONDS = 5.0


async def sleep_for_ever(**context: Any) -> None:
    await asyncio.Event().wait()


async def test_each_worker_gets_the_whole_context() -> None:
    seen: list[Any] = []

    async def one(color: str, number: int) -> None:
        seen.append((color, number))

    async def two(**context: Any) -> None:
        seen.append(context)

    controller = WorkerController()
    await controller.start(one, two, color="red", number=7)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert seen == [("red", 7), {"color": "red", "number": 7}]


async def test_stop_cancels_and_waits_for_the_end() -> None:
    ended = []

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    controller = WorkerController()
    await controller.start(tidy, sleep_for_ever)
    await asyncio.sleep(0)
    await controller.stop()
    assert ended == [True]
    assert controller.tasks == set()
    await controller.stop()


async def test_stop_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
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


async def test_a_death_is_seen_at_once(caplog: pytest.LogCaptureFixture) -> None:
    died = asyncio.Event()

    async def fails() -> None:
        raise ZeroDivisionError

    controller = WorkerController(on_death=died.set)
    await controller.start(fails, sleep_for_ever)
    await asyncio.wait_for(died.wait(), WAIT_SECONDS)
    (record,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "fails died" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    await controller.stop()


async def test_a_worker_that_returns_is_done_and_nothing_is_stopped() -> None:
    died = asyncio.Event()

    async def once() -> None: ...

    controller = WorkerController(on_death=died.set)
    await controller.start(once)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert controller.tasks == set()
    assert not died.is_set()


async def test_a_cancellation_that_nobody_asked_for_is_a_death() -> None:
    died = asyncio.Event()

    async def fails() -> None:
        raise asyncio.CancelledError

    controller = WorkerController(on_death=died.set)
    await controller.start(fails)
    await asyncio.wait_for(died.wait(), WAIT_SECONDS)


async def test_a_failure_while_stopping_stops_nothing_else(
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
    seen = []

    async def note(text: str, number: int) -> None:
        seen.append((text, number))

    controller = WorkerController()
    await controller.start(functools.partial(note, "x"), number=7)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*controller.tasks)
    assert seen == [("x", 7)]


def plain() -> None: ...


async def takes_nothing() -> None: ...


@pytest.mark.parametrize(
    ("worker", "problem"),
    [(plain, "no coroutine function"), (None, "no coroutine function"), (takes_nothing, "context")],
)
async def test_a_worker_that_cannot_run_is_refused_and_none_is_started(
    worker: Any, problem: str
) -> None:
    controller = WorkerController()
    with pytest.raises(RegistrationError, match=problem):
        await controller.start(sleep_for_ever, worker, color="red")
    assert controller.tasks == set()


async def test_a_dead_worker_is_started_again_where_that_is_wanted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    died, revived = asyncio.Event(), asyncio.Event()
    starts: list[str] = []

    async def recovers(color: str) -> None:
        starts.append(color)
        if len(starts) == 1:
            raise ZeroDivisionError
        if len(starts) == 2:
            raise asyncio.CancelledError
        revived.set()
        await asyncio.Event().wait()

    controller = WorkerController(
        on_death=died.set, restart=Backoff(base_seconds=0.001, cap_seconds=0.001)
    )
    await controller.start(recovers, color="red")
    await asyncio.wait_for(revived.wait(), WAIT_SECONDS)
    await controller.stop()
    assert starts == ["red"] * 3
    assert not died.is_set()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [r.exc_info and r.exc_info[0] for r in errors] == [
        ZeroDivisionError,
        asyncio.CancelledError,
    ]
    for record in errors:
        assert re.search(r"recovers died and starts again in 0\.00\d s", record.getMessage())


@pytest.fixture
def ceilings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The ceiling of each delay that is drawn; the delay itself is none."""
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


async def test_a_worker_that_has_run_well_begins_with_the_first_ceiling_again(
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


async def test_each_worker_has_deaths_of_its_own(ceilings: list[float]) -> None:
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


async def test_stopping_does_not_wait_for_a_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = asyncio.Event()

    def draw(low: float, high: float) -> float:
        waits.set()
        return high

    starts = []

    async def fails() -> None:
        starts.append(True)
        raise ZeroDivisionError

    monkeypatch.setattr(random, "uniform", draw)
    controller = WorkerController(restart=Backoff(base_seconds=3600, cap_seconds=3600))
    await controller.start(fails)
    await asyncio.wait_for(waits.wait(), WAIT_SECONDS)
    begun = time.monotonic()
    await controller.stop()
    assert time.monotonic() - begun < WAIT_SECONDS < controller.stop_seconds
    assert controller.tasks == set()
    assert starts == [True]


async def test_a_worker_that_was_stopped_is_not_started_again(
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
    await controller.start(sleep_for_ever, fails_at_the_end)
    await asyncio.sleep(0)
    await controller.stop()
    assert controller.tasks == set()
    assert starts == [True]
    assert "fails_at_the_end died while it was being stopped" in caplog.text


@given(
    base_seconds=st.floats(1e-9, 1e9),
    factor=st.floats(1, 1e9),
    attempt=st.integers(0, 10**6),
)
def test_a_delay_lies_between_nothing_and_its_ceiling(
    base_seconds: float, factor: float, attempt: int
) -> None:
    backoff = Backoff(base_seconds=base_seconds, cap_seconds=base_seconds * factor)
    ceiling = backoff.cap_seconds
    if attempt < 64:
        ceiling = min(ceiling, base_seconds * 2**attempt)
    assert 0 <= backoff.delay_seconds(attempt) <= ceiling


@pytest.mark.parametrize(("attempt", "ceiling"), [(0, 1.0), (3, 8.0), (20, 30.0)])
def test_delays_are_spread_evenly(
    attempt: int, ceiling: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", random.Random(7).uniform)
    count = 20_000
    delays = sorted(Backoff().delay_seconds(attempt) / ceiling for _ in range(count))
    # The test of Kolmogorov and Smirnov: an even spread stays below this distance in 99 cases of 100.
    distance = max(abs(delay - (index + 0.5) / count) for index, delay in enumerate(delays))
    assert distance < 1.63 / math.sqrt(count)


@pytest.mark.parametrize("name", ["base_seconds", "cap_seconds", "reset_seconds"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_backoff_needs_real_times(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} is .*: it must be above zero and finite"):
        Backoff(**{name: value})


def test_a_cap_below_the_base_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cap_seconds is 1: it must not be below base_seconds"):
        Backoff(base_seconds=2, cap_seconds=1)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_stopping_needs_a_real_bound(value: float) -> None:
    with pytest.raises(ValueError, match=r"stop_seconds is .*: it must be above zero and finite"):
        WorkerController(stop_seconds=value)


@pytest.mark.parametrize("restart", [True, 5, Backoff])
def test_what_is_no_backoff_is_refused(restart: Any) -> None:
    with pytest.raises(RegistrationError, match="give a Backoff"):
        WorkerController(restart=restart)


# What the process does of which a worker dies.

APPLICATION = """
import asyncio
import falcon.asgi
from falcon_pachinko import install
from falcon_pachinko.workers import WorkerController

app = install(falcon.asgi.App())
controller = WorkerController(stop_seconds=0.1)

async def fails():
    raise ZeroDivisionError("the worker's own fault")
"""
LIFESPAN = """
@app.lifespan
async def lifespan(app):
    await controller.start({workers})
    {then}
    yield
    await controller.stop()
    print("stopped in order", flush=True)
"""
DIES = APPLICATION + LIFESPAN.format(workers="fails", then="pass")
DIES_WHILE_STARTING = APPLICATION + LIFESPAN.format(
    workers="fails", then="await asyncio.wait(controller.tasks)"
)
TWO_DIE = APPLICATION + LIFESPAN.format(workers="fails, fails", then="pass")
STUBBORN = (
    APPLICATION
    + """
import signal

async def stubborn():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
"""
)
STUBBORN_AND_DIES = STUBBORN + LIFESPAN.format(workers="stubborn, fails", then="pass")
STUBBORN_AND_CTRL_C = STUBBORN + LIFESPAN.format(
    workers="stubborn", then="signal.raise_signal(signal.SIGINT)"
)
RUN = """
import uvicorn
uvicorn.run(app, port=0, loop="{loop}")
"""
# No server, and nothing that handles SIGTERM, as in the processes that hypercorn starts.
UNHANDLED = """
async def main():
    try:
        await controller.start(fails)
        await asyncio.Event().wait()
    finally:
        print("stopped in order", flush=True)

asyncio.run(main())
"""
# No server of ours, but a program that stops on SIGTERM.
HANDLED = """
import signal

async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await controller.start(fails)
    await stopped.wait()
    print("stopped in order", flush=True)

asyncio.run(main())
"""

ON_UVICORN = ["-m", "uvicorn", "--port", "0", "program:app"]
# Without --workers 0 hypercorn's command ends with status 0, whatever its own processes end with.
ON_HYPERCORN = ["-m", "hypercorn", "--workers", "0", "--bind", "127.0.0.1:0", "program:app"]


def run_program(folder: Path, text: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    (folder / "program.py").write_text(text)
    source = Path(falcon_pachinko.__file__).parent.parent
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        timeout=20,
    )


PROGRAMS = {
    "uvicorn's command": (DIES, ON_UVICORN),
    "uvicorn.run": (DIES + RUN.format(loop="auto"), ["program.py"]),
    "uvicorn.run on asyncio's loop": (DIES + RUN.format(loop="asyncio"), ["program.py"]),
    "while it starts": (DIES_WHILE_STARTING, ON_UVICORN),
    "two at once": (TWO_DIE, ON_UVICORN),
    "beside one that cannot be stopped": (STUBBORN_AND_DIES, ON_UVICORN),
    "hypercorn's command": (DIES, ON_HYPERCORN),
    "nothing handles SIGTERM": (APPLICATION + UNHANDLED, ["program.py"]),
    "SIGTERM is handled": (APPLICATION + HANDLED, ["program.py"]),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_death_ends_the_process_in_order_and_with_a_failure(tmp_path: Path, case: str) -> None:
    program, command = PROGRAMS[case]
    finished = run_program(tmp_path, program, sys.executable, *command)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == "stopped in order\n"
    deaths = 2 if case == "two at once" else 1
    assert finished.stderr.count("ZeroDivisionError: the worker's own fault") == deaths
    assert finished.stderr.count("Traceback") == deaths
    assert finished.stderr.count("did not end within 0.1 s") == ("stopped" in case)


def test_a_death_ends_granian_and_its_process_with_a_failure(tmp_path: Path) -> None:
    command = ["-m", "granian", "--interface", "asgi", "--port", str(free_port()), "program:app"]
    finished = run_program(tmp_path, DIES, sys.executable, *command)
    assert finished.returncode == 1, finished.stderr
    assert "stopped in order\n" in finished.stdout
    assert "ZeroDivisionError: the worker's own fault" in finished.stderr


def test_a_worker_that_cannot_be_stopped_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    finished = run_program(tmp_path, STUBBORN_AND_CTRL_C, sys.executable, *ON_UVICORN)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == "stopped in order\n"
    assert "worker stubborn did not end within 0.1 s" in finished.stderr


def test_a_death_ends_process_1_of_a_container_with_a_failure(tmp_path: Path) -> None:
    """The kernel spares process 1 the signals that it does not handle: pid_namespaces(7)."""
    container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*container, "true"]).returncode:
        pytest.skip("this system does not let us make a namespace of processes")
    program = "import os\nassert os.getpid() == 1\n" + DIES
    finished = run_program(tmp_path, program, *container, sys.executable, *ON_UVICORN)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == "stopped in order\n"
    assert "Finished server process [1]" in finished.stderr
