"""The announcement worker: which rooms get the announcement, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, install
from falcon_pachinko.testing import Client, Running
from falcon_pachinko.testing.fixtures import OpenClient, RunApp

from {{ cookiecutter.package_name }} import workers
from {{ cookiecutter.package_name }}.messages import ServerSystemAnnouncement

ANNOUNCEMENT = ServerSystemAnnouncement(text="Soon")
MARKER = ServerSystemAnnouncement(text="Now")

Enter = Callable[[str], Awaitable[Client]]


class Hall(WebSocketResource):
    """Accept every client into the room in the path."""

    sends = (ServerSystemAnnouncement,)

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        await self.join_room(room)
        return True


@pytest.fixture
def application() -> App:
    application = install(falcon.asgi.App())
    application.add_websocket_route("/{room}", Hall)
    return application


@pytest.fixture
async def halls(run_app: RunApp, application: App) -> Running:
    return await run_app(application)


@pytest.fixture
def enter(halls: Running, open_client: OpenClient) -> Enter:
    """Connect a client to a room."""
    return lambda room: open_client(halls, f"/{room}")


@asynccontextmanager
async def announcing(application: App, interval_seconds: float) -> AsyncIterator[None]:
    manager = application.ws_connection_manager
    worker = asyncio.create_task(workers.announce(manager, "lobby_", "Soon", interval_seconds))
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_every_room_gets_the_announcement_repeatedly(application: App, enter: Enter) -> None:
    first, second = await enter("lobby_1"), await enter("lobby_2")
    async with announcing(application, 0.01):
        for _ in range(3):
            assert await first.receive(ServerSystemAnnouncement) == ANNOUNCEMENT
            assert await second.receive(ServerSystemAnnouncement) == ANNOUNCEMENT


async def test_rooms_with_another_prefix_get_no_announcement(
    application: App, enter: Enter
) -> None:
    here, elsewhere = await enter("lobby_1"), await enter("game_1")
    async with announcing(application, 0.01):
        assert await here.receive(ServerSystemAnnouncement) == ANNOUNCEMENT
        assert await here.receive(ServerSystemAnnouncement) == ANNOUNCEMENT
    await application.ws_connection_manager.broadcast_to_room("game_1", MARKER)
    assert await elsewhere.receive(ServerSystemAnnouncement) == MARKER


async def test_a_room_created_later_gets_the_announcement(application: App, enter: Enter) -> None:
    async with announcing(application, 0.01):
        early = await enter("lobby_1")
        assert await early.receive(ServerSystemAnnouncement) == ANNOUNCEMENT
        late = await enter("lobby_2")
        assert await late.receive(ServerSystemAnnouncement) == ANNOUNCEMENT


async def test_the_first_announcement_is_sent_after_the_interval(
    application: App, enter: Enter
) -> None:
    client = await enter("lobby_1")
    async with announcing(application, 3600.0):
        await asyncio.sleep(0)  # Let the worker start.
        await application.ws_connection_manager.broadcast_to_room("lobby_1", MARKER)
        assert await client.receive(ServerSystemAnnouncement) == MARKER
