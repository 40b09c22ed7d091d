"""Eager start of an awaitable, and its continuation in another task."""

import asyncio
from typing import Any, cast

import pytest

from falcon_pachinko.connection.eager import run_eagerly


async def test_coroutine_without_a_wait_finishes_at_once() -> None:
    done = []

    async def quick() -> None:
        done.append(True)

    assert run_eagerly(quick()) is None
    assert done == [True]


async def test_exception_before_the_first_wait_is_raised_at_once() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_eagerly(fails())


async def test_suspended_coroutine_continues_in_another_task() -> None:
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


async def test_exception_of_the_awaited_future_reaches_the_coroutine() -> None:
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


async def test_cancellation_reaches_the_coroutine() -> None:
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
    """An awaitable of a server in another language: only an iterator, no generator."""

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


async def test_awaitable_that_is_only_an_iterator_is_supported() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    suspended = run_eagerly(cast(Any, BareAwaitable(future)))
    assert suspended is not None
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await asyncio.wait_for(asyncio.ensure_future(suspended), 5)


async def test_plain_future_is_supported() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    suspended = run_eagerly(future)
    assert suspended is not None
    future.set_result(5)
    await suspended
