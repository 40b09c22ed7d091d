"""An application whose users sign in by a token in the query, and clients of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import falcon.asgi

from falcon_pachinko import App, Connection, WebSocketLike, WebSocketResource, install
from falcon_pachinko import handles_message as handles
from falcon_pachinko.testing import Client, connect

from .servers import RECEIVING_SERVERS, Endpoint

WAIT_SECONDS = 5.0


@dataclass(frozen=True)
class User:
    """What authentication finds."""

    id: Any
    name: str = "Alice"
    roles: frozenset[str] = frozenset()
    session_id: str | None = None
    expires_at: float | None = None
    signed_in_at: float | None = None


@dataclass(frozen=True)
class NamedUser:
    """A user of a program that knows nothing of sessions."""

    name: str


def user(key: str = "u1", *, seconds: float | None = None, roles: str = "", sid: str = "s1") -> Any:
    """Make a user, whose session ends in so many seconds."""
    at = None if seconds is None else time.time() + seconds
    return User(key, roles=frozenset(roles.split()), session_id=sid, expires_at=at)


class Hall(WebSocketResource):
    """Joins the rooms of the query, and records its events."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events
        self.released = asyncio.Event()

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        for room in req.get_param_as_list("room", default=[]):
            await self.join_room(room)
        return True

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.events.append(("left", close_code))

    @handles("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media({"type": "said", "payload": payload})

    @handles("hang")
    async def hang(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.events.append("busy")
        await self.released.wait()


@dataclass
class SignedIn:
    """A served application, its users by token, and its events."""

    app: App
    endpoint: Endpoint
    stack: AsyncExitStack
    users: dict[str, Any]
    events: list[Any] = field(default_factory=list)

    async def connect(self, path: str = "/hall?token=t") -> Client:
        """Connect; the connection is closed when the test ends."""
        return await self.stack.enter_async_context(connect(self.endpoint.ws_url(path)))

    @property
    def connection(self) -> Connection:
        """The only connection."""
        (connection,) = self.app.ws_connection_manager
        return connection

    async def wait_until(self, condition: Any) -> None:
        """Run the loop until the condition holds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 (the condition sets no event)
                await asyncio.sleep(0.001)


class TokenMiddleware:
    """Sets the user of a token in the query; a user that is an exception is raised."""

    def __init__(self, users: dict[str, Any]) -> None:
        self.users = users

    def find(self, token: str | None) -> Any:
        """Return the user of a token."""
        found = self.users.get(token or "")
        if isinstance(found, Exception):
            raise found
        return found

    async def process_request(self, req: Any, resp: Any) -> None:
        req.context.user = self.find(req.get_param("token"))

    async def process_request_ws(self, req: Any, ws: Any) -> None:
        req.context.user = self.find(req.get_param("token"))


@asynccontextmanager
async def signed_in(
    resource: type[Hall] = Hall, *, server: str = "push", refreshes: bool = True, **users: Any
) -> AsyncIterator[SignedIn]:
    """Serve an application; a user that is an awaitable function is called when its token is refreshed."""
    known = dict(users)
    middleware = TokenMiddleware(known)

    async def authenticate(token: str) -> Any:
        found = middleware.find(token)
        return await found() if callable(found) else found

    app = install(
        falcon.asgi.App(middleware=[middleware]), authenticate=authenticate if refreshes else None
    )
    events: list[Any] = []
    app.add_websocket_route("/hall", resource, events)
    async with RECEIVING_SERVERS[server](app) as endpoint, AsyncExitStack() as stack:
        yield SignedIn(app, endpoint, stack, known, events)
