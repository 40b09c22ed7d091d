"""Bounded waits for tasks, and the position of a task that does not end."""

import asyncio
import re
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import run
from falcon_pachinko.testing.tasks import wait_ended

from .lobby import SHORT_SECONDS, WAIT_SECONDS, other_tasks


async def test_a_handler_that_does_not_end_is_reported_from_another_task() -> None:
    stuck = asyncio.Event()

    class Stuck(WebSocketResource):
        async def on_connect(self, *args: Any, **params: Any) -> bool:
            return True

        @handles_message("stick")
        async def stick(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            stuck.set()
            await asyncio.Event().wait()

    app = install(falcon.asgi.App())
    app.add_websocket_route("/stuck", Stuck)

    async def converse() -> None:
        async with run(app) as plain, plain.connect("/stuck") as client:
            await client.send("stick", {})
            await asyncio.wait_for(stuck.wait(), WAIT_SECONDS)
            client.timeout_seconds = SHORT_SECONDS

    place = rf"it was in \S*Stuck\.stick \({re.escape(__file__)}:\d+\) and was cancelled"
    with pytest.raises(TimeoutError, match=place):
        await converse()
    assert other_tasks() == set()


async def test_a_task_that_ends_is_not_reported() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    task = asyncio.create_task(fail())
    assert await wait_ended(task, WAIT_SECONDS) is None
    assert isinstance(task.exception(), ZeroDivisionError)


async def test_a_task_that_ignores_its_cancellation_is_reported() -> None:
    done = asyncio.Event()

    async def insist() -> None:
        while not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(insist())
    report = await wait_ended(task, SHORT_SECONDS)
    assert report is not None
    place = rf"it was in \S*insist \({re.escape(__file__)}:\d+\) and ignores its cancellation"
    assert re.fullmatch(place, report)
    done.set()
    await task
