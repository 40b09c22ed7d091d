"""A test client in several rooms."""

import asyncio
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import Message, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import Closed, JoinRefused, Undeclared, run


class Said(Message, frozen=True):
    text: str


class Room(WebSocketResource):
    sends = (Said,)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        return name != "no"

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, str]) -> None:
        await ws.send_media(Said(text=payload["text"]))

    @handles_message("other")
    async def other(self, ws: WebSocketLike, payload: dict[str, str]) -> None:
        await ws.send_media({"type": "other", "payload": {}})


async def test_messages_wait_for_the_client_of_their_room() -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room/{name}", Room)
    app.add_rooms_route("/ws", "/room/{name}")
    async with run(app, check_contract=True) as running, running.connect("/ws") as ada:
        a, b = await ada.join("a"), await ada.join("b")
        with pytest.raises(JoinRefused, match=r"'no' refused the client: refused \(3403\)"):
            await ada.join("no")
        for room in (a, b):
            await room.send("say", {"text": str(room.room)})
        assert await b.receive(Said) == Said(text="b")
        assert await a.receive(Said) == Said(text="a")
        both = asyncio.gather(a.receive(Said), b.receive(Said), ada.receive())
        await asyncio.sleep(0)
        await ada.send("clientPing")
        for room in (a, b):
            await room.send(Said(text="again"))  # Unknown there.
            await room.send("say", {"text": "again"})
        with pytest.raises(AssertionError):
            await both
        assert (await a.leave())[-1]["type"] == "serverLeft"
        await ada.close()
        await b.receive_until("said")
        with pytest.raises(Closed):
            await b.receive_until("said")


async def test_undeclared_messages_of_a_room_fail() -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room/{name}", Room)
    app.add_rooms_route("/ws", "/room/{name}")
    async with run(app, check_contract=True) as running, running.connect("/ws") as ada:
        a = await ada.join("a")
        await a.send("other")
        with pytest.raises(Undeclared):
            await a.receive()
