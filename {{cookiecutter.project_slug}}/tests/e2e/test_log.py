"""The log of the service in a process of its own, with hostile clients."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from ..conftest import PACKAGE

if TYPE_CHECKING:
    from ..conftest import Server

# The beginnings of uvicorn's and the root logger's lines, and of tracebacks.
LINE = re.compile(r"(TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL): +\S|    \| ")
FORGED = "x%0AINFO:%20forged%1B%5B31m%E2%80%A8%C2%85%E2%80%AE"
PASSWORD = "hunter2hunter2"

HANDSHAKE = (
    "GET {path}/{name}?token={password}&since={name} HTTP/1.1\r\nHost: {host}\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: chat, {password}\r\n"
    "Authorization: Bearer {password}\r\nCookie: session={password}\r\n{more}\r\n"
)


def send(server: Server, request: str) -> str:
    """Send bytes and return the beginning of the response."""
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 0), 20) as client:
        client.sendall(request.encode("latin-1"))
        return client.recv(1_000).decode("latin-1").partition("\r\n")[0]


def wait_printed(server: Server, text: str, times: int = 1) -> None:
    """Wait until the service has printed a text."""
    with server.printed:
        assert server.printed.wait_for(lambda: "".join(server.lines).count(text) >= times, 20)


def attack(server: Server, name: str) -> None:
    """Send a text in every place of a request whose text can reach the log."""
    values = {
        "path": server.websocket_path,
        "host": urlsplit(server.url).netloc,
        "name": name,
        "password": PASSWORD,
    }
    foreign = "Origin: http://evil.example\x85INFO: forged\r\n"
    assert " 403" in send(server, HANDSHAKE.format(**values, more=foreign))
    assert " 101" in send(server, HANDSHAKE.format(**values, more=""))
    assert " 404" in send(server, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert " 404" in send(
        server, f"GET /{name}?password={PASSWORD} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    assert " 400" in send(server, "GET /\x1b[31m\x85INFO: forged HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize(
    "variables",
    [{}, {"APP_LOG_LEVEL": "trace"}],
    ids=["info", "trace"],
)
async def test_a_client_can_forge_no_line_and_leaves_no_credential(
    serve: Callable[..., Server], variables: dict[str, str]
) -> None:
    server = serve(**variables)
    attack(server, FORGED)
    token = await server.sign_in("Alice")
    async with server.connect("a\nINFO: forged", token) as alice:
        assert (await alice.wait_closed())[0] == 4400
    server.stop()
    lines = server.output().removesuffix("\n").split("\n")
    assert [line for line in lines if not LINE.match(line) or not line.isprintable()] == []
    assert not [line for line in lines if line.startswith("INFO: forged")]
    assert PASSWORD not in server.output()
    assert token not in server.output()
    assert any('"GET /x%0A' in line and line.endswith("404 Not Found") for line in lines)


@pytest.mark.parametrize("server", ["uvicorn", "several processes"])
async def test_other_ways_to_serve_write_the_same_lines(
    serve: Callable[..., Server], server: str
) -> None:
    if server == "uvicorn":
        served = serve("-m", "uvicorn", f"{PACKAGE}.asgi:app", "--port", "0")
    else:
        served = serve(APP_WORKERS="2", APP_BACKEND_URL="redis://127.0.0.1:1")
        wait_printed(served, "Application startup complete.", times=2)
    attack(served, FORGED)
    invalid = "Invalid HTTP request received." if server == "uvicorn" else "invalid HTTP request"
    wait_printed(served, invalid)
    lines = served.output().removesuffix("\n").split("\n")
    # NOTE: uvicorn's command sets up its own loggers only; Python prints other warnings as they are.
    known = [line for line in lines if LINE.match(line) or line.startswith("this server does not")]
    assert [line for line in lines if line not in known or not line.isprintable()] == []


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}@127.0.0.1:1",
        f"redis+sentinel://:{PASSWORD}@127.0.0.1:1/rooms",
        f"redis+cluster://:{PASSWORD}@127.0.0.1:1",
        f"redis://127.0.0.1:1?password={PASSWORD}",
    ],
)
async def test_an_outage_of_redis_is_reported_without_the_password(
    start: Callable[..., Server], url: str
) -> None:
    server = start(APP_BACKEND_URL=url, APP_LOG_LEVEL="debug")
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        server.wait_serving()
        response = await client.get(f"{server.url}/ready")
        assert response.status_code == 503
        assert "Redis is unavailable: " in response.text
        assert PASSWORD not in response.text
    server.process.terminate()
    await server.wait_ended()
    assert "Redis is unavailable: " in server.output()
    assert PASSWORD not in server.output()


FAILING = f"""
import runpy
import {PACKAGE}.app as app

create_app = app.create_app

def create_failing_app(settings):
    created = create_app(settings)

    @created.lifespan
    async def fail(_):
        raise ValueError("the reason\\nINFO:     forged")
        yield

    return created

app.create_app = create_failing_app
runpy.run_module({PACKAGE!r}, run_name="__main__")
"""


async def test_the_traceback_of_a_failed_start_has_a_prefix(
    start: Callable[..., Server],
) -> None:
    server = start("-c", FAILING)
    server.may_print_tracebacks = True
    assert await server.wait_ended() != 0
    lines = server.output().removesuffix("\n").split("\n")
    assert [line for line in lines if not LINE.match(line)] == []
    assert "    | ValueError: the reason" in lines
    assert "    | INFO:     forged" in lines
