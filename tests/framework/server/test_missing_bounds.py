"""What a server lacks: proxies, lifespan and bounds, with the commands of real servers."""

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import falcon.asgi
import pytest

import falcon_pachinko
from falcon_pachinko import App, Limits, RouteConfig, WebSocketLike, WebSocketResource, install
from falcon_pachinko.connection.extension import HTTP_EXTENSION, PUSH_EXTENSION
from falcon_pachinko.server.missing_bounds import (
    COMPRESSION,
    FRAMES,
    PENDING,
    REQUESTS,
    WHOLE_MESSAGES,
    missing_bounds,
)
from falcon_pachinko.testing import run, serve
from falcon_pachinko.uvicorn import PushProtocol

from ..support.server_commands import COMMANDS, SERVERS, serving_by

PROGRAM = """
import os

import falcon.asgi
from falcon_pachinko import WebSocketResource, install


class Room(WebSocketResource):
    async def on_connect(self, req, ws):
        print("connected", req.scope.get("client"), req.scope.get("scheme"), flush=True)
        return True


class Seen:
    async def on_get(self, req, resp):
        client = req.scope.get("client")
        resp.media = {"client": client and client[0], "scheme": req.scheme}


app = install(falcon.asgi.App(), trusted_proxies=os.environ["PROXIES"].split(","))
app.add_websocket_route("/room", Room)
app.add_route("/seen", Seen())
"""
FORWARDED = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7:4711", "X-Forwarded-Proto": "https"}
UNSTARTED = "connections are refused: the application has not been started"


class Room(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        return True


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", Room)
    return app


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "falcon_pachinko.server.missing_bounds"
    ]


@pytest.mark.parametrize("name", SERVERS)
def test_trusted_proxies_apply_over_a_unix_socket(tmp_path: Path, name: str) -> None:
    with serving_by(name, tmp_path, PROGRAM, unix=True, PROXIES="unix:") as server:
        status, seen = server.request("/seen", FORWARDED)
    assert (status, seen) == (200, {"client": "203.0.113.7", "scheme": "https"})


@pytest.mark.parametrize("name", SERVERS)
def test_other_peers_are_not_trusted(tmp_path: Path, name: str) -> None:
    """uvicorn by itself trusts 127.0.0.1; without a lifespan the host has to turn that off."""
    with serving_by(name, tmp_path, PROGRAM, PROXIES="10.0.0.1,unix:") as server:
        status, seen = server.request("/seen", FORWARDED)
    own = {"client": "127.0.0.1", "scheme": "http"}
    if name == "uvicorn without a lifespan":
        own = {"client": "203.0.113.7", "scheme": "https"}
    assert (status, seen) == (200, own)


@pytest.mark.parametrize("name", ["daphne", "uvicorn without a lifespan"])
def test_without_a_lifespan_connections_are_refused_with_one_log_line(
    tmp_path: Path, name: str
) -> None:
    with serving_by(name, tmp_path, PROGRAM, PROXIES="unix:") as server:
        statuses = {server.handshake("/room") for _ in range(3)}
        assert server.request("/seen")[0] == 200  # requests are served
        log = server.wait_logged(UNSTARTED)
    assert statuses == ({403} if name == "daphne" else {503})
    assert log.count(UNSTARTED) == 1
    assert "async with falcon_pachinko.lifespan(app)" in log
    for text in ("Traceback", "ASGI callable", "connected"):
        assert text not in log


@pytest.mark.parametrize("name", ["push", "uvicorn", "hypercorn", "granian"])
def test_the_first_connection_logs_the_missing_bounds_once(tmp_path: Path, name: str) -> None:
    with serving_by(name, tmp_path, PROGRAM, PROXIES="unix:") as server:
        assert [server.handshake("/room") for _ in range(3)] == [101] * 3
        log = server.wait_logged("this server does not bound ")
    assert log.count("this server does not bound ") == 1
    [line] = [line for line in log.splitlines() if "this server does not bound " in line]
    missing = {bound for bound in (FRAMES, PENDING, WHOLE_MESSAGES, COMPRESSION) if bound in line}
    expected = {WHOLE_MESSAGES, COMPRESSION}
    assert missing == (expected if name == "push" else expected | {FRAMES, PENDING})
    assert REQUESTS in line
    assert "--ws falcon_pachinko.uvicorn:PushProtocol" in line


def test_the_documented_command_keeps_all_bounds(tmp_path: Path) -> None:
    page = Path(falcon_pachinko.__file__).parents[2] / "docs" / "framework" / "servers.md"
    documented = re.sub(r"\\\n +", "", page.read_text("utf-8"))
    options = COMMANDS["documented"][0]
    assert " ".join(options[: options.index("--lifespan")]) in documented
    with serving_by("documented", tmp_path, PROGRAM, PROXIES="unix:") as server:
        assert server.handshake("/room") == 101
        log = server.wait_logged("connected")
    assert "does not bound" not in log


class Config:
    """The part of uvicorn's configuration that is checked."""

    ws_max_size = 65_536
    ws_per_message_deflate = False


class Push:
    config = Config()


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({}, []),
        ({"ws_max_size": 65_537}, [WHOLE_MESSAGES]),
        ({"ws_per_message_deflate": True}, [COMPRESSION]),
    ],
)
def test_the_options_of_uvicorn_are_checked(change: dict[str, Any], missing: list[str]) -> None:
    push: Any = Push()
    push.config = type("Changed", (Config,), change)()
    extensions = {PUSH_EXTENSION: push, HTTP_EXTENSION: {}}
    assert missing_bounds(extensions, push, 65_536) == missing
    assert missing_bounds({PUSH_EXTENSION: push}, push, 65_536) == [*missing, REQUESTS]


def test_a_server_without_extensions_bounds_nothing_below_asgi() -> None:
    everything = [FRAMES, PENDING, WHOLE_MESSAGES, COMPRESSION, REQUESTS]
    assert missing_bounds({}, None, 65_536) == everything


BOUNDED: dict[str, Any] = {
    "ws": PushProtocol,
    "ws_max_size": 65_536,
    "ws_per_message_deflate": False,
}


async def test_the_largest_bound_of_the_routes_counts(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {**BOUNDED, "ws_max_size": 100_000}
    async with serve(app, **options) as running, running.connect("/room"):
        pass
    assert WHOLE_MESSAGES in "".join(warnings_in(caplog))
    caplog.clear()
    large = RouteConfig(limits=Limits(max_message_bytes=100_000))
    app.add_websocket_route("/large", Room, route_config=large)
    async with serve(app, **options) as running, running.connect("/room"):
        pass
    assert WHOLE_MESSAGES not in "".join(warnings_in(caplog))


async def test_the_test_kit_without_a_server_logs_no_warning(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with run(app) as running, running.connect("/room"):
        pass
    assert warnings_in(caplog) == []


async def test_a_middleware_that_disables_the_extension_is_named(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def send_on(event: Any) -> None:
            await send(event)

        await app(scope, receive, send if scope["type"] == "lifespan" else send_on)

    async with serve(wrapped, **BOUNDED) as running, running.connect("/room"):
        pass
    [warning] = warnings_in(caplog)
    assert FRAMES in warning
    assert "remove the ASGI middleware that replaces receive or send" in warning


async def test_a_server_that_is_stopping_refuses_without_a_log_line(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """The log line would blame a lifespan that exists."""
    caplog.set_level(logging.INFO)
    stopping = asyncio.Event()
    may_stop = asyncio.Event()

    @app.lifespan
    async def slow_stop(_: App) -> Any:
        yield
        stopping.set()
        await may_stop.wait()

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        sent.append(event["type"])

    async def connect_while_stopping() -> None:
        await stopping.wait()
        await app({"type": "websocket", "headers": []}, receive, send)
        may_stop.set()

    connecting = asyncio.create_task(connect_while_stopping())
    async with serve(app):
        pass
    await connecting
    assert sent == ["websocket.close"]
    assert UNSTARTED not in caplog.text
