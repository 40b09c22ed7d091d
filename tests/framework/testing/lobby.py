"""A small application for the tests of the test kit, and the ways to run it."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import falcon.asgi
import msgspec

from falcon_pachinko import (
    App,
    Connection,
    Limits,
    Message,
    Reject,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.testing import Running, run, serve
from falcon_pachinko.uvicorn import PushProtocol

WAIT_SECONDS = 5.0
# Long enough for an immediate event, and short enough to wait for a missing one.
SHORT_SECONDS = 0.05
# The same where other events must arrive meanwhile.
LONG_SECONDS = 1.0


Open = Callable[..., AbstractAsyncContextManager[Running]]


class Post(msgspec.Struct):
    text: str


class Posted(Message, frozen=True):
    author: str
    text: str


class Burst(Message, frozen=True):
    number: int


class Left(Message, frozen=True):
    name: str
    code: int


class Lobby(WebSocketResource):
    """A room of all connections, which get every post and disconnect."""

    limits = Limits(outbox_messages=5, messages_per_second=math.inf)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.name = name
        if name == "nobody":
            return False
        if name == "stranger":
            raise Reject(4401, "sign in first")
        if name == "echo":
            assert isinstance(ws, Connection)
            await ws.accept(req.scope["subprotocols"][-1], [("X-Node", "one")])
            await ws.send_media(
                {
                    "type": "request",
                    "payload": {
                        "header": req.get_header("X-Mine"),
                        "cookies": req.cookies,
                        "query": req.params,
                        "origin": req.get_header("Origin"),
                    },
                }
            )
        await self.join_room("lobby")
        return True

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: Post) -> None:
        await self.broadcast_to_room("lobby", Posted(author=self.name, text=payload.text))

    @handles_message("burst")
    async def burst(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for number in range(payload["count"]):
            await ws.send_media(Burst(number=number))
        if "close" in payload:
            await ws.close(payload["close"], "as you wish")

    @handles_message("crash")
    async def crash(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        raise ZeroDivisionError("a bug")

    @handles_binary
    async def reverse(self, ws: WebSocketLike, data: bytes) -> None:
        await ws.send_data(data[::-1])

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        await self.broadcast_to_room("lobby", Left(name=self.name, code=close_code))


def make_app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/lobby/{name}", Lobby)
    return app


def make_app_with_lifespan(record: list[str], failing: str = "") -> App:
    app = make_app()

    @app.lifespan
    async def lifespan(_: App) -> AsyncIterator[None]:
        record.append("start")
        if failing == "start":
            raise ZeroDivisionError("no database")
        yield
        record.append("stop")
        if failing == "stop":
            raise ZeroDivisionError("no database")

    return app


class Plain:
    """An ASGI application without Falcon: a function for its connections, and an empty lifespan."""

    def __init__(self, converse: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self.converse = converse

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self.converse(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            await send({"type": f"lifespan.{step}.complete"})


def in_process(app: Any) -> AbstractAsyncContextManager[Running]:
    return run(app)


def in_process_push(app: Any) -> AbstractAsyncContextManager[Running]:
    return run(app, ws=PushProtocol)


def served(app: Any) -> AbstractAsyncContextManager[Running]:
    return serve(app)


def served_push(app: Any) -> AbstractAsyncContextManager[Running]:
    return serve(app, ws=PushProtocol)


def other_tasks() -> set[asyncio.Task[Any]]:
    this = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not this}
