"""The ASGI lifespan protocol from the side of a server."""

import asyncio
from typing import Any

import pytest

from falcon_pachinko.support.lifespan import Lifespan


async def steps(app: Any, timeout_seconds: float | None = None) -> None:
    """Run the startup and the shutdown of an application."""
    lifespan = Lifespan(app, {}, timeout_seconds)
    lifespan.task = asyncio.create_task(lifespan.call_app())
    try:
        for step in ("startup", "shutdown"):
            await lifespan.request(step)
    finally:
        lifespan.task.cancel()
        await asyncio.wait({lifespan.task})


async def test_both_steps_run_in_one_task() -> None:
    record: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            event = await receive()
            record.append((scope["type"], event["type"], asyncio.current_task()))
            await send({"type": f"{event['type']}.complete"})

    await steps(app)
    task = record[0][2]
    assert record == [
        ("lifespan", "lifespan.startup", task),
        ("lifespan", "lifespan.shutdown", task),
    ]


async def test_a_reported_failure_is_raised_with_its_text() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="the application's startup failed:\nno database"):
        await steps(app)


async def test_an_application_that_ends_early_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    with pytest.raises(RuntimeError, match="ended before its startup was complete"):
        await steps(app)


async def test_an_exception_of_the_application_is_raised() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("not an ASGI 3 application")

    with pytest.raises(LookupError, match="not an ASGI 3"):
        await steps(app)


async def test_a_step_that_takes_too_long_is_an_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"startup took longer than 0\.02 s"):
        await steps(app, 0.02)
