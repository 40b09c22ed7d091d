"""The framework, used as in its guide: a room, and an echo with a typed payload."""

import os

import falcon.asgi
import msgspec

from falcon_pachinko import (
    History,
    Limits,
    Message,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url

from ..bounds import SERVER_BOUNDS


class Post(msgspec.Struct, frozen=True):
    """Payload of ``post``."""

    text: str


class Said(Message, frozen=True):
    """A message was posted."""

    text: str


# The rate limit is active, but high enough for a load client.
LIMITS = Limits(messages_per_second=1e6, message_burst=1_000_000)


class RoomResource(WebSocketResource):
    limits = LIMITS

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        self.room = room
        await self.join_room(room)
        return True

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: Post) -> None:
        await self.broadcast_to_room(self.room, Said(text=payload.text))


class OthersResource(RoomResource):
    """A room in which the sender does not get its own messages."""

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: Post) -> None:
        await self.broadcast_to_room(self.room, Said(text=payload.text), exclude_self=True)


class KeptRoomResource(RoomResource):
    history = History(messages=200, seconds=60.0)


class EchoResource(WebSocketResource):
    limits = LIMITS

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: Post) -> None:
        await ws.send_media(Said(text=payload.text))


app = install(
    falcon.asgi.App(),
    backend=backend_from_url(os.environ.get("BENCH_BACKEND_URL", "")),
    server_limits=ServerLimits(**SERVER_BOUNDS),
)
app.add_websocket_route("/room/{room}", RoomResource)
app.add_rooms_route("/ws", "/room/{room}")
app.add_websocket_route("/others/{room}", OthersResource)
app.add_websocket_route("/kept/{room}", KeptRoomResource)
app.add_websocket_route("/echo", EchoResource)
