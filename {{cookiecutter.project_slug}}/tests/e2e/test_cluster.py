"""Several processes of the service over one Valkey, and their readiness."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
import redis

from falcon_pachinko.messages import ServerError, ServerPosition

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.messages import ServerNewMessage

from ..valkey import Valkey, running_valkey

if TYPE_CHECKING:
    from ..conftest import Server

pytestmark = pytest.mark.redis

WAIT_SECONDS = 20.0
PACKAGE = app.__name__.partition(".")[0]


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with running_valkey() as valkey:
        yield valkey


async def readiness(server: Server) -> tuple[int, Any]:
    """Return the status and the body of ``/ready``."""
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
        response = await client.get(f"{server.url}/ready")
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, response.json()


async def until_ready(server: Server, status: int) -> Any:
    """Poll ``/ready`` until it has this status, and return the body."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(httpx.ConnectError):
                found, body = await readiness(server)
                if found == status:
                    return body
            await asyncio.sleep(0.05)


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program with these arguments until it ends."""
    environment = {"PYTHONPATH": str(Path(app.__file__).parents[1]), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", PACKAGE, *arguments],
        env={"PATH": os.environ["PATH"]} | environment | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
    )


async def test_two_processes_share_their_rooms(
    serve: Callable[..., Server], valkey: Valkey, room: str
) -> None:
    one = serve(APP_BACKEND_URL=valkey.url, APP_PRESENCE_GRACE_SECONDS="0.2")
    two = serve(APP_BACKEND_URL=valkey.url, APP_PRESENCE_GRACE_SECONDS="0.2")
    async with one.join("Alice", room) as alice:
        async with two.join("Bob", room) as bob:
            assert bob.users == ["Alice", "Bob"]
            await alice.expect("serverUserJoined", user="Bob")
            await bob.send("clientSendMessage", {"text": "hello"})
            for client in (alice, bob):
                await client.expect("serverNewMessage", user="Bob", text="hello")
        await alice.expect("serverUserLeft", user="Bob")
    for server in (one, two):
        assert (await readiness(server))[0] == 200


async def test_the_eviction_policy_of_redis_is_part_of_the_readiness(
    serve: Callable[..., Server], valkey: Valkey
) -> None:
    with redis.Redis(port=valkey.port) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    server = serve(APP_BACKEND_URL=valkey.url)
    async with asyncio.timeout(WAIT_SECONDS):
        while "redis" not in (await readiness(server))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    ready = {"status": "ready", "redis": {"maxmemory_policy": "allkeys-lru"}}
    assert await readiness(server) == (200, ready)
    assert "maxmemory-policy is allkeys-lru" in server.output()
    valkey.kill()
    body = await until_ready(server, 503)
    assert body["redis"] == ready["redis"]


async def test_several_workers_share_a_port_and_their_rooms(
    serve: Callable[..., Server], valkey: Valkey, room: str
) -> None:
    server = serve(APP_BACKEND_URL=valkey.url, APP_WORKERS="2")
    await until_ready(server, 200)
    async with server.join("Alice", room) as alice, server.join("Bob", room) as bob:
        await alice.expect("serverUserJoined", user="Bob")
        await bob.send("clientSendMessage", {"text": "hello"})
        await alice.expect("serverNewMessage", user="Bob", text="hello")
    async with asyncio.timeout(WAIT_SECONDS):
        while server.output().count("Started server process") < 2:  # noqa: ASYNC110 - output has no event
            await asyncio.sleep(0.05)


async def test_several_processes_without_redis_do_not_start(start: Callable[..., Server]) -> None:
    application = f"{PACKAGE}.asgi:app"
    uvicorn = start("-m", "uvicorn", application, "--port", "0", "--workers", "2")
    # NOTE: uvicorn's parent process ends with status 0 after a failed start of its workers.
    assert await uvicorn.wait_ended() == 0
    assert "2 processes would serve, and each would have rooms of its own: set" in uvicorn.output()
    assert "Application startup complete" not in uvicorn.output()
    for name in ("APP_WORKERS", "WEB_CONCURRENCY"):
        server = start(**{name: "2"})
        assert await server.wait_ended() == 1
        assert server.output() == (
            "Invalid settings:\n"
            "  APP_WORKERS, or WEB_CONCURRENCY, is 2 without APP_BACKEND_URL: each process would have rooms of its"
            " own; set APP_BACKEND_URL or APP_WORKERS=1\n"
        )


async def test_an_invalid_setting_ends_a_server_with_several_processes(
    start: Callable[..., Server],
) -> None:
    application = f"{PACKAGE}.asgi:app"
    server = start("-m", "uvicorn", application, "--port", "0", "--workers", "2", APP_WORKERS="0")
    assert await server.wait_ended() == 0
    assert "APP_WORKERS: " in server.output()
    assert "failed to start, stopping the parent process" in server.output()


async def test_during_an_outage_of_redis_the_service_runs_and_is_not_ready(
    serve: Callable[..., Server], valkey: Valkey, room: str
) -> None:
    server = serve(APP_BACKEND_URL=valkey.url)
    async with server.join("Alice", room) as alice:
        valkey.kill()
        body = await until_ready(server, 503)
        assert body["status"] == "not ready"
        assert body["reasons"][0].startswith("Redis is unavailable: ")
        await alice.send("clientSendMessage", {"text": "hello"})
        [*_, error] = await alice.receive_until(ServerError)
        assert error.code == "unavailable"
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
            assert (await client.get(f"{server.url}/health")).status_code == 200
        valkey.restart()
        await until_ready(server, 200)
        [*_, position] = await alice.receive_until(ServerPosition)
        while position.connection is msgspec.UNSET:  # a heartbeat
            [*_, position] = await alice.receive_until(ServerPosition)
        assert (position.connection, position.recovered) == (alice.connection, False)
        await alice.expect(
            "serverRoomState",
            users=[{"user": "Alice", "userId": "Alice"}],
            you={"user": "Alice", "userId": "Alice"},
            count=1,
        )
        await alice.send("clientSendMessage", {"text": "again"})
        [*_, message] = await alice.receive_until(ServerNewMessage)
        assert (message.user, message.text) == ("Alice", "again")


async def test_the_announce_command_reaches_all_rooms(
    serve: Callable[..., Server], valkey: Valkey, room: str
) -> None:
    server = serve(APP_BACKEND_URL=valkey.url)
    async with server.join("Alice", room) as alice, server.join("Bob", "other") as bob:
        done = await asyncio.to_thread(command, "announce", "Tea!", APP_BACKEND_URL=valkey.url)
        assert (done.returncode, done.stdout) == (0, "announced to 2 rooms\n"), done.stderr
        for client in (alice, bob):
            await client.expect("serverSystemAnnouncement", text="Tea!")


async def test_the_doctor_command_counts_the_nodes_and_fails_without_redis(
    serve: Callable[..., Server], valkey: Valkey
) -> None:
    serve(APP_BACKEND_URL=valkey.url)
    done = await asyncio.to_thread(command, "doctor", APP_BACKEND_URL=valkey.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok       nodes: 1 is running\n" in done.stdout
    valkey.kill()
    done = await asyncio.to_thread(command, "doctor", APP_BACKEND_URL=valkey.url)
    assert (done.returncode, done.stderr) == (1, "")
    assert "failure  Redis: cannot connect to" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "error"),
    [
        (["announce", "x"], {}, "announced to no room: no process of the service"),
        (["announce", "x"], {"APP_BACKEND_URL": "redis://127.0.0.1:1"}, "127.0.0.1:1"),
        (["announce"], {}, "text"),
        (["ban", "x"], {}, "ban: no process of the service"),
        (["mute", "x", "--room", " y"], {"APP_BACKEND_URL": "redis://[::1]:1"}, "the room name"),
        (["sing"], {}, "invalid choice: 'sing'"),
        ([], {"APP_BACKEND_URL": "http://secret@x"}, "APP_BACKEND_URL"),
        ([], {"APP_BACKEND_URL": "redis://:secret#word@x"}, "APP_BACKEND_URL"),
        ([], {"APP_BACKEND_URL": "redis://x?secret=1"}, "APP_BACKEND_URL"),
        ([], {"APP_PRESENCE_GRACE_SECONDS": "inf"}, "APP_PRESENCE_GRACE_SECONDS: "),
        ([], {"APP_HISTORY_SECONDS": "inf"}, "APP_HISTORY_SECONDS: "),
        ([], {"APP_HISTORY_MESSAGES": "-1"}, "APP_HISTORY_MESSAGES: "),
        ([], {"APP_WORKERS": "0"}, "  APP_WORKERS: "),
        ([], {"APP_BACKEND_PREFIX": "a b"}, "APP_BACKEND_PREFIX: "),
    ],
)
async def test_an_invalid_command_or_setting_ends_with_a_clear_error(
    arguments: list[str], variables: dict[str, str], error: str
) -> None:
    done = await asyncio.to_thread(command, *arguments, **variables)
    assert done.returncode != 0
    assert error in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
