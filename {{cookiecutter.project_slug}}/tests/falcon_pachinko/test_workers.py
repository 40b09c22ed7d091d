"""Workers: started together, watched, stopped within a bound."""

import asyncio
import functools
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import falcon_pachinko
from falcon_pachinko import RegistrationError
from falcon_pachinko.workers import WorkerController

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


def test_a_death_stops_a_real_server(tmp_path: Path) -> None:
    program = tmp_path / "dying.py"
    program.write_text(
        textwrap.dedent(
            """
            import falcon.asgi
            import uvicorn
            from falcon_pachinko import install
            from falcon_pachinko.workers import WorkerController

            app = install(falcon.asgi.App())
            controller = WorkerController()

            async def fails():
                raise ZeroDivisionError("the worker's own fault")

            @app.lifespan
            async def lifespan(app):
                await controller.start(fails)
                yield
                await controller.stop()
                print("stopped in order", flush=True)

            uvicorn.run(app, port=0)
            """
        )
    )
    source = Path(falcon_pachinko.__file__).parent.parent
    finished = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert finished.returncode == -signal.SIGTERM
    assert "stopped in order" in finished.stdout
    assert "the worker's own fault" in finished.stderr
