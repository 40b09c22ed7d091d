"""Failures of one connection, observed by the other members of the room."""

import asyncio
import logging
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import connect

from .support.servers import RECEIVING_SERVERS

WAIT_SECONDS = 5.0


class Room(WebSocketResource):
    """A room that crashes on demand, in a handler and in ``on_disconnect``."""

    def __init__(self, disconnects: list[tuple[str, int]]) -> None:
        self.disconnects = disconnects

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.name = self.connection.user = name
        await self.join_room("room")
        await self.broadcast_to_room("room", f"{name} came", exclude_self=True)
        await ws.send_text("welcome")
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("room", payload["text"])

    @handles_message("crash")
    async def crash(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise ZeroDivisionError("in the handler")

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.disconnects.append((self.name, close_code))
        if self.name.startswith("crashing"):
            raise ZeroDivisionError("in the disconnect")
        await self.broadcast_to_room("room", f"{self.name} left")


class World:
    """An application with one room, served."""

    def __init__(self) -> None:
        self.disconnects: list[tuple[str, int]] = []
        self.app: App = install(falcon.asgi.App())
        self.app.add_websocket_route("/{name}", Room, self.disconnects)
        self.manager = self.app.ws_connection_manager

    async def wait_members(self, *names: str) -> None:
        """Wait until exactly these are in the room, including invisible members."""
        rooms = self.manager._registry.synced
        async with asyncio.timeout(WAIT_SECONDS):
            while [c.user for c in rooms.rooms_by_member] != list(names):  # noqa: ASYNC110 (it sets no event)
                await asyncio.sleep(0.001)
        assert await self.manager.members("room") == list(names)


@pytest.mark.parametrize("server", RECEIVING_SERVERS)
async def test_crashes_in_handler_and_on_disconnect_do_not_affect_others(
    server: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    async with (
        RECEIVING_SERVERS[server](world.app) as served,
        connect(served.ws_url("/alice")) as alice,
    ):
        assert await alice.receive_raw() == "welcome"
        async with connect(served.ws_url("/crashing")) as crashing:
            assert await crashing.receive_raw() == "welcome"
            assert await alice.receive() == "crashing came"
            await crashing.send("crash")
            assert await crashing.wait_closed() == (1011, "Internal Server Error")
        await world.wait_members("alice")
        await alice.send("say", {"text": "still here"})
        assert await alice.receive() == "still here"
    assert [name for name, _ in world.disconnects] == ["crashing", "alice"]
    assert world.disconnects[0][1] == 1011
    errors = [
        str(r.exc_info[1]) for r in caplog.records if r.exc_info and r.levelno >= logging.ERROR
    ]
    assert errors == ["in the handler", "in the disconnect"]
