"""Stepping an awaitable once, and letting it go on elsewhere."""

import asyncio
from typing import Any, cast

import pytest

from falcon_pachinko.connection.eager import run_eagerly


async def test_what_does_not_wait_is_done_at_once() -> None:
    done = []

    async def quick() -> None:
        done.append(True)

    assert run_eagerly(quick()) is None
    assert done == [True]


async def test_what_is_raised_at_once_is_raised_at_once() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_eagerly(fails())


async def test_what_waits_goes_on_in_another_task() -> None:
    one, two = asyncio.Event(), asyncio.Event()
    steps: list[Any] = []

    async def slow() -> None:
        steps.append("begun")
        await one.wait()
        steps.append("one")
        await asyncio.sleep(0)
        await two.wait()
        steps.append("two")

    suspended = run_eagerly(slow())
    assert suspended is not None
    assert steps == ["begun"]

    async def finish() -> None:
        await suspended

    task = asyncio.create_task(finish())
    one.set()
    two.set()
    await asyncio.wait_for(task, 5)
    assert steps == ["begun", "one", "two"]


async def test_a_failure_of_what_it_waits_for_reaches_it() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    caught = []

    async def slow() -> None:
        try:
            await future
        except ZeroDivisionError:
            caught.append(True)
            await asyncio.sleep(0)
            raise KeyError("afterwards") from None

    suspended = run_eagerly(slow())
    assert suspended is not None
    future.set_exception(ZeroDivisionError())
    with pytest.raises(KeyError, match="afterwards"):
        await suspended
    assert caught == [True]


async def test_a_cancellation_reaches_it() -> None:
    cancelled = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    suspended = run_eagerly(slow())
    assert suspended is not None

    async def finish() -> None:
        await suspended

    task = asyncio.create_task(finish())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled == [True]


class BareAwaitable:
    """What a server in another language may return: no generator, only an iterator."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future
        self.begun = False

    def __await__(self) -> "BareAwaitable":
        return self

    def __iter__(self) -> "BareAwaitable":
        return self

    def __next__(self) -> Any:
        if self.begun:
            raise StopIteration
        self.begun = True
        self.future._asyncio_future_blocking = True
        return self.future


async def test_an_awaitable_that_is_only_an_iterator_works_too() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    suspended = run_eagerly(cast(Any, BareAwaitable(future)))
    assert suspended is not None
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await asyncio.wait_for(asyncio.ensure_future(suspended), 5)


async def test_what_is_no_coroutine_works_too() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    suspended = run_eagerly(future)
    assert suspended is not None
    future.set_result(5)
    await suspended
