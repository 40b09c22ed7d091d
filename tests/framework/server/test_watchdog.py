"""The watchdog names a handler that blocks the event loop."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.server.watchdog import watch_loop
from falcon_pachinko.testing import serve

BLOCKED_SECONDS = 0.5


def work() -> None:
    time.sleep(BLOCKED_SECONDS)


class Busy(WebSocketResource):
    """Blocks the loop, or waits."""

    async def on_connect(self, req: Any, ws: WebSocketLike, *args: Any, **params: Any) -> bool:
        self.connection.user = "alice"
        return True

    @handles_message("block")
    async def block(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        work()
        await ws.send_media({"type": "done"})

    @handles_message("wait")
    async def wait(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await asyncio.sleep(BLOCKED_SECONDS)
        await ws.send_media({"type": "done"})

    @handles_message("start")
    async def start(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await asyncio.create_task(blocking(), name="a task of mine")
        await ws.send_media({"type": "done"})


async def blocking() -> None:
    work()


def watched_app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/busy", Busy)

    @app.lifespan
    async def watch(_: App) -> AsyncIterator[None]:
        async with watch_loop():
            yield

    return app


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "falcon_pachinko.server.watchdog"]


async def test_each_block_is_one_line_with_the_handler_the_message_and_the_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve(watched_app()) as running, running.connect("/busy") as client:
        for _ in range(2):
            await client.send("block")
            await client.receive()
    first, second = warnings_of(caplog)
    assert first.getMessage() == second.getMessage()
    line = work.__code__.co_firstlineno + 1
    assert first.getMessage() == (
        "Busy: Busy.block for 'block' blocks the event loop for more than 100 ms,"
        f" at {__file__}:{line} in work"
    )
    assert first.levelno == logging.WARNING
    assert (vars(first)["user_id"], vars(first)["message_type"]) == ("alice", "block")


async def test_a_task_of_a_handler_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    async with serve(watched_app()) as running, running.connect("/busy") as client:
        await client.send("start")
        await client.receive()
    [record] = warnings_of(caplog)
    assert record.getMessage().startswith("a task of mine (blocking) blocks the event loop")


async def test_a_handler_that_waits_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    async with serve(watched_app()) as running, running.connect("/busy") as client:
        await client.send("wait")
        await client.receive()
    # A machine that runs something else meanwhile delays other code, which is named then.
    assert not [each for each in warnings_of(caplog) if "Busy.wait" in each.getMessage()]


async def test_the_thread_ends_with_the_application() -> None:
    async with watch_loop():
        assert any("watchdog" in each.name for each in threading.enumerate())
    assert not any("watchdog" in each.name for each in threading.enumerate())
