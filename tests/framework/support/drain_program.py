"""A service that drains: python drain_program.py <options as JSON>; with several processes each imports it again.

It prints a line for each connection that has ended. ``GET /ready`` is 503 while the process is about to stop.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator

import falcon.asgi

from falcon_pachinko import App, WebSocketLike, WebSocketResource, install
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.server.drain import DrainPolicy
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn.server import run


class Room(WebSocketResource):
    """A room."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: object, **params: object
    ) -> bool:
        await self.join_room(str(params["room"]))
        await ws.send_text("welcome")
        return True

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        print("ended", close_code, os.getpid(), flush=True)


class Ready:
    """Tells whether the process should get further clients."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = {"process": os.getpid()}
        if self.app.ws_connection_manager.draining:
            resp.status = falcon.HTTP_503


async def wait_for_ever(app: App) -> AsyncIterator[None]:
    await asyncio.Event().wait()
    yield


async def fail(app: App) -> AsyncIterator[None]:
    raise RuntimeError("the start fails")
    yield


def make_app() -> App:
    """Create the application of a process."""
    logging.basicConfig(level=logging.INFO)
    backend = backend_from_url(os.environ.get("BACKEND_URL", ""))
    app = install(falcon.asgi.App(), backend=backend)
    app.add_route("/ready", Ready(app))
    app.add_websocket_route("/rooms/{room}", Room)
    start = os.environ.get("DRAIN_PROGRAM_START")
    if start is not None:
        app.lifespan({"waits": wait_for_ever, "fails": fail}[start])
    return app


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    run(
        "drain_program:make_app",
        factory=True,
        lifespan="on",
        host="127.0.0.1",
        ws=PushProtocol if given.get("push", True) else "websockets-sansio",
        port=given["port"],
        workers=given.get("workers", 1),
        timeout_graceful_shutdown=5,
        timeout_worker_healthcheck=30,
        drain=DrainPolicy(**given["drain"]),
        io_uring=given.get("io_uring", False),
    )
