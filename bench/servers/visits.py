"""Rooms whose clients join and leave, and a route that only accepts: the cost of a visit."""

import itertools
import os
from collections.abc import AsyncIterator

import falcon.asgi
import msgspec

from falcon_pachinko import (
    App,
    History,
    Limits,
    Message,
    PresenceBatch,
    RouteConfig,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.timing import Timing

from ..bounds import SERVER_BOUNDS
from ..plan import RECENT_MESSAGES, RECENT_ROOMS


class Post(msgspec.Struct, frozen=True):
    """Payload of ``post``."""

    text: str


class Said(Message, frozen=True):
    """A message of a chat."""

    user: str
    text: str


class Joined(Message, frozen=True):
    """A user has joined."""

    user: str


class Left(Message, frozen=True):
    """A user has left."""

    user: str


class RoomState(Message, frozen=True):
    """The first users of a room and their number."""

    users: list[str]
    count: int


# The list of a chat has at most this many users.
LISTED = 200
LIMITS = Limits(messages_per_second=1e6, message_burst=1_000_000)
numbers = itertools.count()


class BareResource(WebSocketResource):
    """A connection without a room."""


class VisitResource(WebSocketResource):
    """A connection that joins one room, as in the guide, and reads no list."""

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        self.connection.user = user = req.get_param("user", required=True)
        await self.join_room(room, join_message=Joined(user=user), leave_message=Left(user=user))
        return True


class ChatResource(WebSocketResource):
    """A connection that joins as in the chat of a project: it is announced, and gets a welcome and a list.

    With ``?quiet=1`` it is neither announced nor told anything.
    """

    limits = LIMITS

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        self.room = room
        self.connection.user = user = f"user{next(numbers)}"
        if req.get_param("quiet"):
            await self.join_room(room)
            return True
        await self.join_room(room, join_message=Joined(user=user), leave_message=Left(user=user))
        page = await self.manager.members(room, limit=LISTED)
        await ws.send_media(Said(user="the service", text=f"Welcome {user} to room '{room}'!"))
        await ws.send_media(RoomState(users=page, count=page.total))
        return True

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: Post) -> None:
        message = Said(user=self.connection.user or "", text=payload.text)
        await self.broadcast_to_room(self.room, message)


class RecentResource(ChatResource):
    """A connection that gets the last messages of its room."""

    history = History(seconds=3_600.0)

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, room: str) -> bool:
        self.room = room
        self.connection.user = f"user{next(numbers)}"
        await self.join_room(room, recent=0 if req.get_param("quiet") else RECENT_MESSAGES)
        return True


# Short, so that the end of a grace period belongs to the measurement.
backend = backend_from_url(
    os.environ.get("BENCH_BACKEND_URL", ""), timing=Timing(grace_seconds=0.1)
)
app = install(falcon.asgi.App(), backend=backend, server_limits=ServerLimits(**SERVER_BOUNDS))
app.add_websocket_route("/bare", BareResource)
app.add_websocket_route("/rooms/{room}", VisitResource)
app.add_websocket_route(
    "/chat/{room}",
    ChatResource,
    route_config=RouteConfig(presence_batch=PresenceBatch(above=LISTED)),
)
app.add_websocket_route("/recent/{room}", RecentResource)


@app.lifespan
async def fill_rooms(app: App) -> AsyncIterator[None]:
    """Send the messages that the clients of the rooms with a history get."""
    for number in range(RECENT_ROOMS):
        for _ in range(RECENT_MESSAGES):
            message = Said(user="alice", text="x" * 60)
            await app.ws_connection_manager.broadcast_to_room(f"recent{number}", message)
    yield
