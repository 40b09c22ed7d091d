"""Shutdown of the service, and errors at start-up."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

import {{ cookiecutter.package_name }}.resources.{{ cookiecutter.__resource_module }} as chat

if TYPE_CHECKING:
    from ..conftest import Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

SERVICE_RESTART = 1012

# The service, which also prints each end of a connection after on_disconnect.
PRINTING = f"""
import runpy
from {chat.__name__} import {chat.{{ cookiecutter.__resource_class }}.__name__} as Resource

on_disconnect = Resource.on_disconnect

async def print_end(self, ws, close_code):
    await on_disconnect(self, ws, close_code)
    print("disconnected:", self.user.name, close_code, flush=True)

Resource.on_disconnect = print_end
runpy.run_module({chat.__name__.partition(".")[0]!r}, run_name="__main__")
"""

# A namespace in which the service is process 1, as in a container: pid_namespaces(7).
CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
AS_PROCESS_1 = f"""
import os, sys
command = [sys.executable, "-m", {chat.__name__.partition(".")[0]!r}]
os.execvp("unshare", {CONTAINER} + command)
"""

# The worker fails once a client is connected.
FAILING_WORKER = f"""
import asyncio
import {chat.__name__.partition(".")[0]}.workers as workers

async def announce(manager, **context):
    while not len(manager):
        await asyncio.sleep(0.01)
    raise ZeroDivisionError("the worker's own fault")

workers.announce = announce
{PRINTING}
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)]
)
async def test_a_signal_stops_the_service_in_order(
    serve: Callable[..., Server], room: str, number: signal.Signals, status: int
) -> None:
    server = serve("-c", PRINTING)
    async with server.join("Alice", room) as alice, server.join("Bob", "elsewhere") as bob:
        await alice.send("clientStartTyping")
        await alice.send("clientSendMessage", {"text": "marker"})
        await alice.expect("serverNewMessage", user="Alice", text="marker")
        server.process.send_signal(number)
        for client in (alice, bob):
            code, _ = await client.wait_closed()
            assert code == SERVICE_RESTART
    assert await server.wait_ended() == status
    output = server.output()
    for name in ("Alice", "Bob"):
        assert output.count(f"disconnected: {name} {SERVICE_RESTART}\n") == 1
    assert "Application shutdown complete." in output
    assert "Finished server process" in output
    assert "timeout" not in output


async def until_stopping(server: Server) -> None:
    """Wait until the service reports that it is about to stop; its port still accepts."""
    async with asyncio.timeout(10), httpx.AsyncClient(trust_env=False) as client:
        while (response := await client.get(f"{server.url}/ready")).status_code == 200:
            pass
    assert response.status_code == 503
    assert response.json()["reasons"] == ["the service is about to stop"]


async def test_before_the_stop_the_service_is_not_ready_then_its_clients_are_closed_in_turn(
    serve: Callable[..., Server], room: str
) -> None:
    server = serve("-c", PRINTING, APP_DRAIN_DELAY_SECONDS="3", APP_DRAIN_SECONDS="2")
    async with server.join("Alice", room) as alice, server.join("Bob", room) as bob:
        signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await until_stopping(server)
        async with server.join("Carol", "elsewhere") as carol:
            ends = [asyncio.create_task(client.wait_closed()) for client in (alice, bob, carol)]
            _, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            assert time.monotonic() - signalled >= 3
            assert others, "they are closed one after the other"
            await asyncio.wait(ends)
            assert time.monotonic() - signalled >= 4
            for code, reason in (end.result() for end in ends):
                assert code == SERVICE_RESTART
                assert re.fullmatch(r"retry=[012]\.\d", reason)
    assert await server.wait_ended() == -signal.SIGTERM
    output = server.output()
    assert output.count(f" {SERVICE_RESTART}\n") == 3
    assert "Application shutdown complete." in output


async def test_a_second_signal_stops_the_service_at_once(
    serve: Callable[..., Server], room: str
) -> None:
    server = serve("-c", PRINTING, APP_DRAIN_DELAY_SECONDS="60", APP_DRAIN_SECONDS="60")
    async with server.join("Alice", room) as alice:
        server.process.send_signal(signal.SIGTERM)
        await until_stopping(server)
        signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code, _ = await alice.wait_closed()
        assert code == SERVICE_RESTART
    assert await server.wait_ended() == -signal.SIGTERM
    assert time.monotonic() - signalled < 10
    assert f"disconnected: Alice {SERVICE_RESTART}\n" in server.output()


@pytest.fixture
def contained(serve: Callable[..., Server]) -> tuple[Server, int]:
    """A service that is process 1 of its own namespace, and its process id outside."""
    if shutil.which("unshare") is None or subprocess.run([*CONTAINER, "true"]).returncode:
        pytest.skip("process namespaces are not available on this system")
    server = serve("-c", AS_PROCESS_1)
    outside = server.process.pid
    children = Path(f"/proc/{outside}/task/{outside}/children").read_text(encoding="ascii")
    return server, int(children)


async def test_process_1_of_a_container_stops_in_order(
    contained: tuple[Server, int], room: str
) -> None:
    server, number = contained
    async with server.join("Alice", room) as alice:
        os.kill(number, signal.SIGTERM)
        code, _ = await alice.wait_closed()
        assert code == SERVICE_RESTART
    assert await server.wait_ended() == 0
    output = server.output()
    assert "Application shutdown complete." in output
    assert "Finished server process [1]" in output


async def test_a_failed_worker_stops_the_service_in_order_with_status_1(
    serve: Callable[..., Server], room: str
) -> None:
    server = serve("-c", FAILING_WORKER)
    server.may_print_tracebacks = True
    async with server.join("Alice", room) as alice:
        code, _ = await alice.wait_closed()
        assert code == SERVICE_RESTART
    assert await server.wait_ended() == 1
    output = server.output()
    assert output.count("ZeroDivisionError: the worker's own fault") == 1
    assert output.count(f"disconnected: Alice {SERVICE_RESTART}\n") == 1
    assert "Application shutdown complete." in output
    assert "Finished server process" in output


async def test_an_unresponsive_client_does_not_delay_shutdown(
    serve: Callable[..., Server], room: str
) -> None:
    server = serve("-c", PRINTING, APP_GRACEFUL_SHUTDOWN_SECONDS="1")
    async with server.join("Alice", room) as alice:
        alice.pause_reading()
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert await server.wait_ended() == -signal.SIGTERM
        assert time.monotonic() - started < 10
        alice.vanish()
    assert server.output().count("disconnected: Alice") == 1
    assert "Finished server process" in server.output()


async def test_an_unfinished_request_is_cut_off_after_the_graceful_period(
    serve: Callable[..., Server],
) -> None:
    server = serve(APP_GRACEFUL_SHUTDOWN_SECONDS="1")
    server.may_print_tracebacks = True  # uvicorn prints the traceback of the request.
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(
            b"POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 16\r\nExpect: 100-continue\r\n\r\n"
        )
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert await server.wait_ended() == -signal.SIGTERM
        assert 0.9 < time.monotonic() - started < 10
    finally:
        writer.close()
    assert "timeout graceful shutdown exceeded" in server.output()


async def test_the_service_stops_without_connections(serve: Callable[..., Server]) -> None:
    server = serve(APP_ANNOUNCEMENT_INTERVAL_SECONDS="0.01")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{server.url}/health")).json() == {"status": "ok"}
        server.process.send_signal(signal.SIGTERM)
        assert await server.wait_ended() == -signal.SIGTERM
    assert "Finished server process" in server.output()


async def test_a_port_in_use_is_one_sentence_with_another_one(
    serve: Callable[..., Server], start: Callable[..., Server]
) -> None:
    port = int(serve().url.rpartition(":")[2])
    second = start(APP_PORT=str(port))
    assert await second.wait_ended() == 1
    assert second.output() == (
        f"Port {port} of 127.0.0.1 is taken by another program: stop it, or use another port with"
        f" 'make run PORT={port + 1}' or APP_PORT={port + 1}.\n"
    )
    third = start(APP_METRICS_PORT=str(port))
    assert await third.wait_ended() == 1
    assert third.output() == (
        f"Port {port} of 127.0.0.1 is taken by another program: stop it, or use another port with"
        f" APP_METRICS_PORT={port + 1}.\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("APP_PORT", "http", "APP_PORT: "),
        ("APP_ALLOWED_ORIGINS", "example.com", "'example.com' is not an origin"),
        ("APP_SECRET", "too-short-a-secret", "APP_SECRET must have 32 bytes or more"),
    ],
)
async def test_an_invalid_setting_is_reported_and_ends_the_service(
    start: Callable[..., Server], secret: str, name: str, value: str, sentence: str
) -> None:
    server = start(**{name: value})
    assert await server.wait_ended() == 1
    output = server.output()
    assert output.startswith("Invalid settings:\n")
    assert sentence in output
    assert secret not in output
    assert "too-short-a-secret" not in output


async def test_production_does_not_start_without_a_secret_of_its_own(
    start: Callable[..., Server],
) -> None:
    servers = [
        start(APP_ENVIRONMENT="production", APP_SECRET=""),
        start(APP_ENVIRONMENT="production", APP_SECRET="too-short-a-secret"),
    ]
    statuses = await asyncio.gather(*(server.wait_ended() for server in servers))
    assert statuses == [1, 1]
    for server in servers:
        assert "APP_SECRET" in server.output()
        assert "too-short-a-secret" not in server.output()


async def test_the_output_contains_no_secret_and_no_token(
    serve: Callable[..., Server], room: str, secret: str
) -> None:
    server = serve()
    token = await server.sign_in("Alice")
    async with server.connect(room, token) as alice:
        assert (await alice.receive())["type"] == "serverSystemMessage"
    server.process.send_signal(signal.SIGTERM)
    await server.wait_ended()
    assert "/session" in server.output()
    assert secret not in server.output()
    assert token not in server.output()
