"""The connections of a process: visible, pending, ended."""

from typing import Any

import falcon
import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import Closed, run


class Door(WebSocketResource):
    """A room that a client may join again after the end of its connection."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = name
        await self.join_room("room")
        if name == "banned":
            await self.manager.disconnect_user(name, 4403, "banned")
        return True

    @handles_message("leave")
    async def leave(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        left = [await self.leave_room("room"), await self.leave_room("room")]
        await ws.send_media({"left": left})


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", Door)
    return app


async def test_a_pending_connection_of_a_disconnected_user_is_not_accepted(app: App) -> None:
    async with run(app) as running:
        with pytest.raises((Closed, Exception), match=r"403|4403"):
            async with running.connect("/banned") as client:
                await client.receive()
        assert len(app.ws_connection_manager) == 0


async def test_nothing_is_kept_of_an_ended_connection(app: App) -> None:
    registry = app.ws_connection_manager._registry
    async with run(app) as running:
        async with running.connect("/alice"):
            (connection,) = app.ws_connection_manager
            assert registry.connections == {connection.id: connection}
            assert registry.users.connections_of("alice") == (connection,)
        await registry.wait_empty()
        with pytest.raises(falcon.WebSocketDisconnected):
            await app.ws_connection_manager.join_room(connection, "room")
        for kept in (registry.connections, registry.pending, registry.fanouts, registry.histories):
            assert kept == {}
        assert registry.synced.members_by_room == registry.unsynced.members_by_room == {}


async def test_leaving_a_room_twice_has_no_second_effect(app: App) -> None:
    async with run(app) as running, running.connect("/alice") as alice:
        await alice.send("leave")
        assert await alice.receive() == {"left": [True, False]}
