"""A service whose users can be banned and muted and signed out, on one node or on two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import falcon.asgi

from falcon_pachinko import (
    WebSocketConnectionManager,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.testing import Client, Served, serve
from falcon_pachinko.uvicorn import PushProtocol

from .backends import TIMING, prefixes
from .redis_servers import RedisServer


@dataclass(frozen=True)
class Person:
    """A signed-in user."""

    id: str
    session_id: str | None
    signed_in_at: float | None = None


class Authentication:
    """Takes the user and the session from the query."""

    async def process_request_ws(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        user = req.get_param("user")
        if user is not None:
            at = req.get_param_as_float("at")
            req.context.user = Person(user, req.get_param("session"), at)


class Rooms(WebSocketResource):
    """Joins the room of its path, and those that messages name.

    Attributes:
        may_accept: Lets ``on_connect`` go on after the join; set by default.
        joined: Set once it has joined.
    """

    may_accept: ClassVar[asyncio.Event]
    joined: ClassVar[asyncio.Event]

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        if name := req.get_param("late_user"):
            self.connection.user = name
        if params["room"] != "none":
            await self.join_room(params["room"])
        self.joined.set()
        await self.may_accept.wait()
        return True

    @handles_message("join")
    async def join(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.join_room(payload["room"])
        await ws.send_media({"type": "joined"})

    @handles_message("say", action="send")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media({"type": "said"})

    @handles_message("read")
    async def read(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media({"type": "read"})


class ModeratedRooms:
    """The nodes of the service; without Redis there is only one."""

    def __init__(self, redis_server: RedisServer | None, stack: AsyncExitStack) -> None:
        self.url = "" if redis_server is None else redis_server.url
        self.prefix = next(prefixes)
        self.stack = stack
        self.nodes: list[tuple[Served, WebSocketConnectionManager]] = []

    async def start(self) -> None:
        """Start a node."""
        backend = backend_from_url(self.url, prefix=self.prefix, timing=TIMING)
        app = install(falcon.asgi.App(middleware=[Authentication()]), backend=backend)
        app.add_websocket_route("/{room}", Rooms)
        served = await self.stack.enter_async_context(serve(app, ws=PushProtocol))
        self.nodes.append((served, app.ws_connection_manager))

    def manager(self, number: int = 0) -> WebSocketConnectionManager:
        """Return the connection manager of a node."""
        return self.nodes[number % len(self.nodes)][1]

    async def connect(self, number: int, path: str) -> Client:
        """Connect a client to a node."""
        served, _ = self.nodes[number % len(self.nodes)]
        return await self.stack.enter_async_context(served.connect(path))

    async def refusal(self, number: int, path: str) -> tuple[int, str]:
        """Return the close code and the reason of a connection that is refused."""
        return await (await self.connect(number, path)).wait_closed()


@asynccontextmanager
async def running_rooms(redis_server: RedisServer | None) -> AsyncIterator[ModeratedRooms]:
    """Run the service on two nodes, or without Redis on one."""
    Rooms.may_accept, Rooms.joined = asyncio.Event(), asyncio.Event()
    Rooms.may_accept.set()
    async with AsyncExitStack() as stack:
        rooms = ModeratedRooms(redis_server, stack)
        for _ in range(1 if redis_server is None else 2):
            await rooms.start()
        yield rooms
