"""A shielded coroutine runs to its end despite cancellation, and no longer than its timeout."""

import asyncio

import pytest

from falcon_pachinko.connection.shield import run_shielded, timed_out_tasks

WAIT_SECONDS = 10


async def test_a_cancellation_is_raised_after_the_end() -> None:
    started, proceed, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        await proceed.wait()
        finished.set()

    task = asyncio.create_task(run_shielded(work(), WAIT_SECONDS, "work"))
    await started.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished.is_set()


async def test_an_exception_is_raised() -> None:
    async def fail() -> None:
        raise LookupError("reason")

    with pytest.raises(LookupError, match="reason"):
        await run_shielded(fail(), WAIT_SECONDS, "work")


async def test_an_exception_during_a_cancellation_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    proceed = asyncio.Event()

    async def fail() -> None:
        await proceed.wait()
        raise LookupError("reason")

    task = asyncio.create_task(run_shielded(fail(), WAIT_SECONDS, "work"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "work failed during the server's shutdown" in caplog.text
    assert "reason" in caplog.text


async def test_a_timeout_cancels_and_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def resist() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
            raise LookupError("late") from None

    with pytest.raises(TimeoutError):
        await run_shielded(resist(), 0.01, "work")
    (task,) = timed_out_tasks
    release.set()
    await asyncio.wait({task}, timeout=WAIT_SECONDS)
    await asyncio.sleep(0)
    assert not timed_out_tasks
    assert "work failed after its timeout" in caplog.text


async def test_a_coroutine_that_cancels_itself_is_an_error() -> None:
    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="work cancelled itself"):
        await run_shielded(cancel_itself(), WAIT_SECONDS, "work")
