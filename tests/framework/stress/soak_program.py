"""The service of the soak test: python soak_program.py <push or portable> <handshakes per second>."""

import asyncio
import gc
import os
import random
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import falcon.asgi
import uvicorn

from falcon_pachinko import (
    Limits,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol

ROOMS = 8
SEND_BUFFER_BYTES = 32 * 1024
SLOW_READER = 4008

handshakes_per_second = int(sys.argv[2])
limits = ServerLimits(
    handshakes_per_second=handshakes_per_second, handshake_burst=handshakes_per_second
)
app = install(falcon.asgi.App(), server_limits=limits)
close_codes: Counter[int] = Counter()


class Room(WebSocketResource):
    """A client is in several rooms and publishes to them."""

    limits = Limits(outbox_bytes=256 * 1024, close_seconds=0.5, stall_seconds=1.0)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        self.connection.user = f"user {random.randrange(50)}"
        await self.join_room("all", join_message="joined", leave_message="left")
        await self.join_room(self.random_room())
        await asyncio.sleep(random.random() * 0.02)
        return random.random() < 0.9

    def random_room(self) -> str:
        return f"room {random.randrange(ROOMS)}"

    @handles_message("publish")
    async def publish(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room(self.random_room(), {"type": "message", "payload": payload})

    @handles_message("move")
    async def move(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.leave_room(self.random_room())
        await self.join_room(self.random_room())

    @handles_message("stream")
    async def stream(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for _ in range(20):
            await ws.send_text("x" * 20_000)

    @handles_message("wait")
    async def wait(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await asyncio.sleep(random.random())

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        close_codes[close_code] += 1
        await asyncio.sleep(random.random() * 0.02)
        await self.broadcast_to_room("all", "left")


class Statistics:
    """Statistics that reveal a leak."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        gc.collect()
        manager = app.ws_connection_manager
        resp.media = {
            "connections": len(manager),
            "rooms": len(manager._registry.synced.members_by_room),
            "tasks": len(asyncio.all_tasks()),
            "objects": len(gc.get_objects()),
            "memory_bytes": resident_bytes(),
            "disconnects": close_codes.total(),
            "slow_readers": close_codes[SLOW_READER],
        }


def resident_bytes() -> int:
    """Return the memory of this process; 0 without /proc."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


app.add_route("/statistics", Statistics())
app.add_websocket_route("/room", Room)

if __name__ == "__main__":
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_level="info",
        access_log=False,
        timeout_graceful_shutdown=10,
        http=BoundedHTTPProtocol if sys.argv[1] == "push" else "httptools",
        ws=PushProtocol if sys.argv[1] == "push" else "websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=2,
        ws_ping_timeout=2,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        # NOTE: each connection inherits it; by default the kernel buffers megabytes for a slow client.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run([listener])
