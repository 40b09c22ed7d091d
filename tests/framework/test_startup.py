"""The start and the end of an application: by the server's lifespan or by ``lifespan()`` in a host."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import falcon.asgi
import pytest

import falcon_pachinko
from falcon_pachinko import (
    App,
    ConfigurationError,
    RegistrationError,
    WebSocketLike,
    WebSocketResource,
    install,
)
from falcon_pachinko.testing import run, serve

from .support.server_commands import free_port, serving


class Room(WebSocketResource):
    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await ws.send_media({"type": "serverHello"})
        return True


def make_app(record: list[str], failing: str = "") -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", Room)

    @app.lifespan
    async def record_steps(_: App) -> AsyncIterator[None]:
        if failing == "start":
            raise ZeroDivisionError("no database")
        async with asyncio.timeout(None):  # it has to be left in the task that entered it
            record.append("start")
            yield
            record.append("stop")
        if failing == "stop":
            raise ZeroDivisionError("no database")

    return app


async def host_without_lifespan(app: App, scope: Any, receive: Any, send: Any) -> None:
    """Mount an application as hosts do: connections are passed on, the lifespan is not."""
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def test_a_host_runs_the_lifespan_of_a_mounted_application() -> None:
    record: list[str] = []
    app = make_app(record)

    async def host(scope: Any, receive: Any, send: Any) -> None:
        await host_without_lifespan(app, scope, receive, send)

    async with falcon_pachinko.lifespan(app):
        assert record == ["start"]
        assert app.ws_started
        async with serve(host) as served, served.connect("/room") as client:
            assert await client.receive() == {"type": "serverHello"}
    assert record == ["start", "stop"]
    assert not app.ws_started


async def test_an_application_can_be_started_again_after_its_end() -> None:
    record: list[str] = []
    app = make_app(record)
    for _ in range(2):
        async with falcon_pachinko.lifespan(app):
            pass
    async with run(app):
        pass
    assert record == ["start", "stop"] * 3


async def test_an_application_cannot_be_started_twice() -> None:
    record: list[str] = []
    app = make_app(record)
    async with falcon_pachinko.lifespan(app):
        with pytest.raises(RuntimeError, match="has been started already"):
            async with falcon_pachinko.lifespan(app):
                pytest.fail("it runs")
        with pytest.raises(RuntimeError, match="has been started already"):
            async with run(app):
                pytest.fail("it runs")
        assert app.ws_started
        assert record == ["start"]
    async with run(app):
        with pytest.raises(RuntimeError, match="either its server runs the lifespan or its host"):
            async with falcon_pachinko.lifespan(app):
                pytest.fail("it runs")
    assert record == ["start", "stop"] * 2


async def test_a_failed_start_is_raised_and_may_be_repeated() -> None:
    app = make_app([], failing="start")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"(?s)startup failed:.*no database"):
            async with falcon_pachinko.lifespan(app):
                pytest.fail("it runs")
    assert not app.ws_started


async def test_a_configuration_error_at_the_start_is_reported_without_a_traceback() -> None:
    app = install(falcon.asgi.App())

    @app.lifespan
    async def refuse(_: App) -> AsyncIterator[None]:
        raise ConfigurationError("set the URL of the database")
        yield

    for _ in range(2):
        with pytest.raises(RuntimeError) as failed:
            async with falcon_pachinko.lifespan(app):
                pytest.fail("it runs")
        assert str(failed.value) == (
            "the application's startup failed:\nset the URL of the database"
        )


async def test_a_failed_stop_is_raised() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)shutdown failed:.*no database"):
        async with falcon_pachinko.lifespan(make_app([], failing="stop")):
            pass


async def test_an_error_of_the_host_stops_the_application() -> None:
    record: list[str] = []
    with pytest.raises(LookupError):
        async with falcon_pachinko.lifespan(make_app(record)):
            raise LookupError
    assert record == ["start", "stop"]


async def test_a_cancelled_host_stops_the_application() -> None:
    record: list[str] = []
    entered = asyncio.Event()

    async def host() -> None:
        async with falcon_pachinko.lifespan(make_app(record)):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(host())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert record == ["start", "stop"]


async def test_the_end_waits_for_the_last_connection() -> None:
    record: list[str] = []
    app = make_app(record)

    async def host(scope: Any, receive: Any, send: Any) -> None:
        await host_without_lifespan(app, scope, receive, send)

    async with serve(host) as served:
        context = falcon_pachinko.lifespan(app)
        await context.__aenter__()
        async with served.connect("/room") as client:
            assert await client.receive() == {"type": "serverHello"}
            ending = asyncio.create_task(context.__aexit__(None, None, None))
            done, _ = await asyncio.wait({ending}, timeout=0.05)
            assert not done
            assert record == ["start"]
        async with asyncio.timeout(10):
            await ending
    assert record == ["start", "stop"]


@pytest.mark.parametrize("app", [falcon.asgi.App(), object()])
async def test_it_needs_an_installed_application(app: Any) -> None:
    with pytest.raises(RegistrationError, match=r"made by install\(\)"):
        async with falcon_pachinko.lifespan(app):
            pytest.fail("it runs")


CHAT = """
import falcon.asgi
from falcon_pachinko import WebSocketResource, install


class Room(WebSocketResource):
    async def on_connect(self, req, ws):
        return True


app = install(falcon.asgi.App())
app.add_websocket_route("/chat/room", Room)


@app.lifespan
async def workers(_):
    print("workers started", flush=True)
    yield
    print("workers stopped", flush=True)
"""


def recipe(heading: str) -> str:
    """Return the program below a heading of the page about servers."""
    page = Path(falcon_pachinko.__file__).parents[2] / "docs" / "framework" / "servers.md"
    section = page.read_text("utf-8").partition(f"## {heading}\n")[2]
    program: str = section.partition("```python\n")[2].partition("```")[0]
    assert program, heading
    return program


def test_the_recipe_for_a_mount_in_starlette(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CHAT.replace('"/chat/room"', '"/room"'))
    (tmp_path / "host.py").write_text(recipe("An application in another one"))
    port = free_port()
    command = ["-m", "uvicorn", "--port", str(port), "host:host"]
    with serving(command, tmp_path, port) as server:
        assert server.handshake("/chat/room") == 101
        assert "workers started" in server.log()
    assert "workers stopped" in server.log()
    assert "connections are refused" not in server.log()


def test_the_recipe_for_daphne(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(CHAT)
    port = free_port()
    program = recipe("A server without a lifespan").replace("port=8000", f"port={port}")
    assert f"port={port}" in program
    (tmp_path / "serve.py").write_text(program)
    with serving(["serve.py"], tmp_path, port) as server:
        assert server.handshake("/chat/room") == 101
        assert "workers started" in server.log()
    assert "workers stopped" in server.log()
    assert "connections are refused" not in server.log()
