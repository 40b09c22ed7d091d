"""Stored messages of a service in a process of its own: restarts, a crash, several nodes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import {{ cookiecutter.package_name }}.resources.{{ cookiecutter.__resource_module }} as chat
from {{ cookiecutter.package_name }}.messages import ServerNewMessage
from {{ cookiecutter.package_name }}.store import MessageStore

from ..postgres import running_postgres
from ..valkey import running_valkey

if TYPE_CHECKING:
    from ..conftest import Server

# The service, which is killed when it has stored the message "last" and before it sends it.
KILLED = f"""
import os, runpy, signal
from {ServerNewMessage.__module__} import ServerNewMessage
from {chat.__name__} import {chat.{{ cookiecutter.__resource_class }}.__name__} as Resource

broadcast_to_room = Resource.broadcast_to_room

def broadcast(self, room, message, **options):
    if isinstance(message, ServerNewMessage) and message.text == "last":
        os.kill(os.getpid(), signal.SIGKILL)
    return broadcast_to_room(self, room, message, **options)

Resource.broadcast_to_room = broadcast
runpy.run_module({chat.__name__.partition(".")[0]!r}, run_name="__main__")
"""


async def page(url: str, room: str) -> list[str]:
    """Return the stored texts of a room."""
    store = MessageStore(url)
    await store.open()
    try:
        return [each.text for each in await store.page(chat.ROOM_PREFIX + room)]
    finally:
        await store.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize(
    "database", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)]
)
async def test_a_message_outlives_a_crash_before_it_is_sent(
    start: Callable[..., Server],
    serve: Callable[..., Server],
    tmp_path: Path,
    room: str,
    database: str,
) -> None:
    async with asyncio.timeout(60):
        if database == "SQLite":
            await crash(start, serve, f"sqlite:///{tmp_path}/var/messages.db", {}, room)
            return
        with running_postgres() as postgres:
            url = postgres.new_database()
            await crash(start, serve, url, {"APP_DATABASE_URL": url}, room)


async def crash(
    start: Callable[..., Server],
    serve: Callable[..., Server],
    url: str,
    variables: dict[str, str],
    room: str,
) -> None:
    """Send two messages, of which the second one kills the service, and start it again."""
    killed = start("-c", KILLED, **variables)
    killed.wait_serving()
    async with killed.join("Alice", room) as alice:
        await alice.send("clientSendMessage", {"text": "first"})
        await alice.expect("serverNewMessage", user="Alice", text="first")
        await alice.send("clientSendMessage", {"text": "last"})
        assert await killed.wait_ended() == -signal.SIGKILL
    assert await page(url, room) == ["first", "last"]
    restarted = serve(**variables)
    async with restarted.join("Alice", room) as alice:
        await alice.send("clientSendMessage", {"text": "after the restart"})
        await alice.expect("serverNewMessage", user="Alice", text="after the restart")
    assert await page(url, room) == ["first", "last", "after the restart"]


async def test_none_stores_nothing(serve: Callable[..., Server], tmp_path: Path, room: str) -> None:
    server = serve(APP_DATABASE_URL="none")
    async with server.join("Alice", room) as alice:
        await alice.send("clientSendMessage", {"text": "Hello"})
        message = (await alice.receive_until(ServerNewMessage))[-1]
    assert message == ServerNewMessage(user="Alice", user_id="Alice", text="Hello")
    assert not any("messages.db" in files for _, _, files in os.walk(tmp_path))


async def test_an_unreachable_database_ends_the_start_with_one_line(
    start: Callable[..., Server],
) -> None:
    server = start(APP_DATABASE_URL="postgresql://chat:hunter2@127.0.0.1:1/chat")
    assert await server.wait_ended() != 0
    [line] = [each for each in server.output().splitlines() if "APP_DATABASE_URL" in each]
    assert "the database cannot be used" in line
    assert "hunter2" not in server.output()


@pytest.mark.redis
async def test_several_nodes_with_sqlite_start_with_a_warning(
    serve: Callable[..., Server],
) -> None:
    with running_valkey() as valkey:
        output = serve(APP_BACKEND_URL=valkey.url).output()
        assert output.count("but messages are stored in SQLite") == 1
        assert "set APP_DATABASE_URL to one PostgreSQL" in output
        assert "SQLite" not in serve(APP_BACKEND_URL=valkey.url, APP_DATABASE_URL="none").output()


@pytest.mark.postgres
@pytest.mark.redis
async def test_nodes_that_start_at_once_share_a_postgresql(
    start: Callable[..., Server], room: str
) -> None:
    with running_valkey() as valkey, running_postgres() as postgres:
        url = postgres.new_database()
        variables = {"APP_BACKEND_URL": valkey.url, "APP_DATABASE_URL": url}
        one, two = start(**variables), start(**variables)
        for server in (one, two):
            server.wait_serving()
        async with one.join("Alice", room) as alice, two.join("Bob", room) as bob:
            await alice.expect("serverUserJoined", user="Bob")
            for name, client in (("Alice", alice), ("Bob", bob)):
                await client.send("clientSendMessage", {"text": f"from {name}"})
                for each in (alice, bob):
                    await each.expect("serverNewMessage", user=name, text=f"from {name}")
        assert await page(url, room) == ["from Alice", "from Bob"]
