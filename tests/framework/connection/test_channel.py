"""One room of a connection: what it shares with the connection, and how it ends."""

from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, Connection, Message, WebSocketLike, WebSocketResource, install
from falcon_pachinko.connection.channel import Channel
from falcon_pachinko.testing import JoinRefused, run


class Said(Message, frozen=True):
    text: str


class Room(WebSocketResource):
    found: list[Connection]

    def __init__(self, found: list[Connection]) -> None:
        self.found = found

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.found.append(self.connection)
        await self.connection.accept(headers=[("x-room", name)])  # No effect: it is accepted.
        if name == "full":
            for _ in range(2_000):
                await ws.send_media(Said(text="too much"))
        await self.join_room(name)
        return True


@pytest.fixture
def found() -> list[Connection]:
    return []


@pytest.fixture
def app(found: list[Connection]) -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room/{name}", Room, found)
    app.add_rooms_route("/ws", "/room/{name}")
    return app


async def test_it_shares_the_client_and_has_an_id_of_its_own(
    app: App, found: list[Connection]
) -> None:
    async with run(app) as running, running.connect(f"/ws?client={'a' * 32}") as ada:
        room = await ada.join("a")
        (channel,) = found
        assert isinstance(channel, Channel)
        (carrier,) = app.ws_connection_manager
        assert channel._carrier is carrier
        assert carrier._carrier is carrier
        assert (channel.room, channel.client_id) == ("a", "a" * 32)
        assert channel.id != carrier.id
        assert "Channel" in repr(channel)
        assert carrier.id in repr(channel)
        await app.ws_connection_manager.send_to_connection(channel.id, Said(text="here"))
        assert (await room.receive())["room"] == "a"
        await channel.close(4001, "over")
        assert (await room.receive())["payload"] == {"code": 4001, "reason": "over"}
        assert channel.closed
        assert not carrier.closed
        await channel.close(4002)
        await ada.send("clientPing")
        assert (await ada.receive())["type"] == "serverPong"


async def test_an_abort_closes_the_connection(app: App, found: list[Connection]) -> None:
    async with run(app) as running, running.connect("/ws") as ada:
        await ada.join("a")
        found[0].abort(4008, "reads too slowly")
        assert (await ada.wait_closed())[0] == 4008


async def test_too_much_before_the_accept_refuses_the_room_only(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with run(app) as running, running.connect("/ws") as ada:
        room = await ada.join("a")
        with pytest.raises(JoinRefused) as refusal:
            await ada.join("full")
        assert refusal.value.close_code == 1011
        await room.send("clientPing")
        assert (await room.receive())["type"] == "serverPong"
    assert "OutboxFull" in caplog.text
