"""Who hears the announcement, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from falcon_pachinko import Connection, WebSocketConnectionManager

from {{ cookiecutter.package_name }} import workers

ANNOUNCEMENT = {"type": "serverSystemAnnouncement", "payload": {"text": "Soon"}}
WAIT_SECONDS = 20.0

Hear = Callable[[], Any]


@pytest.fixture
def manager() -> WebSocketConnectionManager:
    return WebSocketConnectionManager()


async def member_of(manager: WebSocketConnectionManager, room: str) -> Hear:
    """Let a client into a room; the answer waits for what it hears next."""
    events: asyncio.Queue[Any] = asyncio.Queue()

    async def receive() -> Any:
        raise AssertionError("nobody reads from this client")

    async def accept(*_: Any) -> None:
        await connection.forward({"type": "websocket.accept"})

    connection = Connection(receive, events.put)
    connection.accept_handshake = accept
    await connection.open()
    await manager.join_room(connection, room)
    manager.add(connection)
    assert (await events.get())["type"] == "websocket.accept"

    async def hear() -> Any:
        async with asyncio.timeout(WAIT_SECONDS):
            return json.loads((await events.get())["text"])

    return hear


@asynccontextmanager
async def announcing(
    manager: WebSocketConnectionManager, interval_seconds: float
) -> AsyncIterator[None]:
    worker = asyncio.create_task(workers.announce(manager, "lobby_", "Soon", interval_seconds))
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_every_room_hears_it_again_and_again(manager: WebSocketConnectionManager) -> None:
    first, second = await member_of(manager, "lobby_1"), await member_of(manager, "lobby_2")
    async with announcing(manager, 0.01):
        for _ in range(3):
            assert await first() == ANNOUNCEMENT
            assert await second() == ANNOUNCEMENT


async def test_rooms_of_another_kind_do_not_hear_it(manager: WebSocketConnectionManager) -> None:
    here, elsewhere = await member_of(manager, "lobby_1"), await member_of(manager, "game_1")
    async with announcing(manager, 0.01):
        assert await here() == ANNOUNCEMENT
        assert await here() == ANNOUNCEMENT
    await manager.broadcast_to_room("game_1", "marker")
    assert await elsewhere() == "marker"


async def test_a_room_that_is_made_later_hears_it_too(manager: WebSocketConnectionManager) -> None:
    async with announcing(manager, 0.01):
        early = await member_of(manager, "lobby_1")
        assert await early() == ANNOUNCEMENT
        late = await member_of(manager, "lobby_2")
        assert await late() == ANNOUNCEMENT


async def test_the_first_one_comes_after_the_interval(manager: WebSocketConnectionManager) -> None:
    hear = await member_of(manager, "lobby_1")
    async with announcing(manager, 3600.0):
        await asyncio.sleep(0)  # The worker takes its first step.
        await manager.broadcast_to_room("lobby_1", "marker")
        assert await hear() == "marker"
