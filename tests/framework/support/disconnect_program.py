"""A service that records each ``on_disconnect``: python disconnect_program.py <options as JSON>."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import falcon.asgi
import uvicorn

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.uvicorn import PushProtocol

MEMBERS_PER_ROOM = 10

options = json.loads(sys.argv[1])
record = open(options["record"], "a", buffering=1)  # noqa: SIM115 (open as long as the process)
app = install(falcon.asgi.App())


class Room(WebSocketResource):
    """One of many rooms; each ``on_disconnect`` takes a while and broadcasts to the others."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, number: int, **params: Any
    ) -> bool:
        self.number = number
        self.room = f"room {number // MEMBERS_PER_ROOM}"
        await self.join_room(self.room)
        await ws.send_text("welcome")
        return True

    @handles_message("work")
    async def work(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_text("working")
        await asyncio.sleep(options["work_seconds"])
        await self.broadcast_to_room(self.room, "done")

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        await self.broadcast_to_room(self.room, "left")
        await asyncio.sleep(options["disconnect_seconds"])
        record.write(f"{self.number} {close_code}\n")


@app.lifespan
async def lifespan(app: App) -> AsyncIterator[None]:
    yield
    rooms = await app.ws_connection_manager.get_rooms_by_prefix("")
    record.write(f"end with {len(app.ws_connection_manager)} connections in {len(rooms)} rooms\n")


app.add_websocket_route("/{number:int}", Room)
config = uvicorn.Config(
    app,
    lifespan="on",
    timeout_graceful_shutdown=options["grace_seconds"],
    ws=PushProtocol if options["push"] else "websockets-sansio",
    ws_per_message_deflate=False,
    ws_ping_interval=None,
)
uvicorn.Server(config).run([socket.socket(fileno=options["listener"])])
