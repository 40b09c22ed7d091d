"""The lifespan of an application: startup, shutdown and their failures."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from falcon_pachinko import App
from falcon_pachinko.testing import run, serve

from .lobby import SHORT_SECONDS, Open, make_app, make_app_with_lifespan, other_tasks


async def test_the_lifespan_encloses_all_connections(open_app: Open) -> None:
    record: list[str] = []
    async with open_app(make_app_with_lifespan(record)) as chat:
        assert record == ["start"]
        async with chat.connect("/lobby/alice"):
            pass
        assert record == ["start"]
    assert record == ["start", "stop"]


async def test_a_failed_startup_is_reported(open_app: Open) -> None:
    with pytest.raises(RuntimeError, match="the application's startup failed:"):
        async with open_app(make_app_with_lifespan([], "start")):
            pytest.fail("it runs")
    assert other_tasks() == set()


@pytest.mark.parametrize("step", ["start", "stop"])
async def test_a_failed_step_in_process_has_its_traceback(step: str) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)failed:.*ZeroDivisionError: no database"):
        async with run(make_app_with_lifespan([], step)):
            pass


async def test_a_failed_shutdown_is_a_note_of_the_failure_of_the_test() -> None:
    with pytest.raises(AssertionError, match="own") as failed:
        async with run(make_app_with_lifespan([], "stop")):
            raise AssertionError("own")
    assert "no database" in failed.value.__notes__[0]


@pytest.mark.parametrize("opener", [run, serve])
async def test_a_startup_that_takes_too_long_is_cancelled(opener: Open) -> None:
    app = make_app()

    @app.lifespan
    async def lifespan(_: App) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    with pytest.raises(TimeoutError, match=r"startup took longer than 0\.05 s"):
        async with opener(app, timeout_seconds=SHORT_SECONDS):
            pytest.fail("it runs")
    assert other_tasks() == set()


async def test_connections_share_the_state_of_the_lifespan() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["database"] = "connected"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["state"]["database"]})

    async with run(app) as plain, plain.connect("/") as client:
        assert await client.receive_raw() == "connected"
