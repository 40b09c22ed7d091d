"""The service of the client's tests."""

from typing import Any

import falcon.asgi

from falcon_pachinko import (
    History,
    Limits,
    Message,
    Payload,
    Reject,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)


class Say(Payload, frozen=True):
    text: str


class ServerSaid(Message, frozen=True):
    text: str


class ServerEcho(Message, frozen=True):
    text: str


class ServerAskName(Message, frozen=True):
    hint: str


class ChatResource(WebSocketResource):
    history = History(messages=3)
    limits = Limits(heartbeat_seconds=0.3)
    sends = (ServerSaid, ServerEcho, ServerAskName)
    handled = 0

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        if room == "forbidden":
            return False
        if room.isdigit():
            raise Reject(int(room), "go away")
        self.room = room
        await self.join_room(room)
        return True

    @handles_message("clientSay")
    async def say(self, ws: WebSocketLike, payload: Say) -> None:
        await self.broadcast_to_room(self.room, ServerSaid(text=payload.text))

    @handles_message("clientSayOnce", once=True)
    async def say_once(self, ws: WebSocketLike, payload: Say) -> None:
        type(self).handled += 1
        await self.broadcast_to_room(self.room, ServerSaid(text=payload.text))

    @handles_message("clientEcho")
    async def echo(self, ws: WebSocketLike, payload: Say) -> ServerEcho:
        return ServerEcho(text=payload.text)

    @handles_message("clientFlood")
    async def flood(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for number in range(payload["count"]):
            await ws.send_media(ServerSaid(text=str(number)))

    @handles_message("clientAsk")
    async def ask(self, ws: WebSocketLike, payload: dict[str, Any]) -> ServerEcho:
        hint = {"hint": payload["hint"]}
        return ServerEcho(text=await self.request("serverAskName", hint, 5, result_type=str))


def make_app() -> Any:
    """Return the application: a connection per room, and one for several rooms."""
    app = install(falcon.asgi.App())
    app.add_websocket_route("/rooms/{room}", ChatResource)
    app.add_rooms_route("/rooms", "/rooms/{room}")
    return app
