"""A small chat application on one node or on two, and clients of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar

import falcon.asgi

from falcon_pachinko import (
    History,
    WebSocketConnectionManager,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.testing import Client, Served, serve
from falcon_pachinko.uvicorn import PushProtocol

from .backends import TIMING, prefixes
from .redis_servers import RedisServer


class ChatRoom(WebSocketResource):
    """One room, in which each member can send any message."""

    history: ClassVar[History | None] = History(messages=50, seconds=60.0)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = name
        await self.join_room("lobby", join_message=f"{name} joined", leave_message=f"{name} left")
        return True

    @handles_message("send")
    async def send(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("lobby", {"type": "message", "payload": payload}, **payload)


class ChatRoomWithoutHistory(ChatRoom):
    """The same room without history."""

    history = None


Node = tuple[Served, WebSocketConnectionManager]


class ChatCluster:
    """Two nodes over Redis; with the memory backend there is only one."""

    def __init__(self, redis_server: RedisServer | None, stack: AsyncExitStack) -> None:
        self.redis_server = redis_server
        self.stack = stack
        self.prefix = next(prefixes)
        self.nodes: list[Node] = []

    @property
    def url(self) -> str:
        return self.redis_server.url if self.redis_server is not None else ""

    async def start(self, timing: Timing = TIMING) -> Node:
        """Start a node."""
        backend = backend_from_url(self.url, prefix=self.prefix, timing=timing)
        app = install(falcon.asgi.App(), backend=backend)
        app.add_websocket_route("/history/{name}", ChatRoom)
        app.add_websocket_route("/chat/{name}", ChatRoomWithoutHistory)
        served = await self.stack.enter_async_context(serve(app, ws=PushProtocol))
        self.nodes.append((served, app.ws_connection_manager))
        return self.nodes[-1]

    async def connect(self, number: int, path: str) -> Client:
        """Connect a client to a node."""
        served, _ = self.nodes[number % len(self.nodes)]
        return await self.stack.enter_async_context(served.connect(path))

    def manager(self, number: int) -> WebSocketConnectionManager:
        """Return the connection manager of a node."""
        return self.nodes[number % len(self.nodes)][1]


@asynccontextmanager
async def running_chat(redis_server: RedisServer | None) -> AsyncIterator[ChatCluster]:
    """Run the application on two nodes, or without Redis on one."""
    async with AsyncExitStack() as stack:
        cluster = ChatCluster(redis_server, stack)
        await cluster.start()
        if redis_server is not None:
            await cluster.start()
        yield cluster


async def received(client: Client, count: int) -> list[Any]:
    """Receive messages and remove their positions and times."""
    messages = []
    for _ in range(count):
        message = await client.receive()
        if isinstance(message, dict):
            message.pop("id", None)
            message.pop("at", None)
        messages.append(message)
    return messages


def message(**payload: Any) -> dict[str, Any]:
    """The message that the room broadcasts for a payload."""
    return {"type": "message", "payload": payload}
