"""One node of the chaos cluster: python chaos_program.py --url redis://... --port 8000 ..."""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import falcon.asgi
import uvicorn

from falcon_pachinko import (
    BackendUnavailable,
    History,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol

PREFIX = "chaos"
# The close codes of the commands.
DISCONNECTED_CODE = 4001
ROOM_CLOSED_CODE = 4002


class Room(WebSocketResource):
    """A page joins one or more rooms and publishes to them."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        self.connection.user = user = req.get_param("user", required=True)
        self.rooms = req.get_param_as_list("room", required=True)
        for room in self.rooms:
            payload = {"room": room, "user": user}
            joined, left = ({"type": kind, "payload": payload} for kind in ("joined", "left"))
            await self.join_room(room, join_message=joined, leave_message=left)
            await self.on_resync(ws, room)
        return True

    async def on_resync(self, ws: WebSocketLike, room: str) -> None:
        """Send the list of the room's members, and the position to which it belongs."""
        backend: Any = self.manager.backend
        users = await self.room_members(room)
        position = backend.position(room)
        payload = {
            "room": room,
            "users": users,
            "epoch": position.epoch if position else "",
            "offset": position.offset if position else 0,
            # The list of this node alone, as Redis is unavailable.
            "partial": room in backend.member_lists.outdated,
        }
        await ws.send_media({"type": "members", "payload": payload})

    @handles_message("publish")
    async def publish(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        ephemeral = payload["ephemeral"]
        await self.broadcast_to_room(
            payload["room"],
            {"type": "typing" if ephemeral else "message", "payload": payload},
            exclude_self=payload["exclude"] == "self",
            exclude_user=payload["exclude"] == "user",
            ephemeral=ephemeral,
        )
        await ws.send_media({"type": "published", "payload": {"key": payload["key"]}})

    @handles_message("leave")
    async def leave(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for room in self.rooms:
            await self.leave_room(room)
        await ws.send_media({"type": "rooms left"})


class Statistics:
    """The outage, connections and tasks of a node."""

    def __init__(self, app: Any) -> None:
        self.manager = app.ws_connection_manager

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = {
            "outage": self.manager.backend.outage,
            "connections": len(self.manager),
            "tasks": len(asyncio.all_tasks()),
        }


class Presence:
    """The members of all rooms from a node's point of view."""

    def __init__(self, app: Any) -> None:
        self.manager = app.ws_connection_manager

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        try:
            rooms = await self.manager.get_rooms_by_prefix("room-")
            resp.media = {room: await self.manager.members(room) for room in rooms}
        except BackendUnavailable as error:
            raise falcon.HTTPServiceUnavailable(description=str(error)) from error


class Closing:
    """Closes the connections of a user, or those in a room; responds with the outcome."""

    def __init__(self, app: Any) -> None:
        self.manager = app.ws_connection_manager

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        user, room = req.get_param("user"), req.get_param("room")
        outcome, reason = "done", ""
        try:
            if user is not None:
                await self.manager.disconnect_user(user, DISCONNECTED_CODE)
            else:
                await self.manager.close_room(room, ROOM_CLOSED_CODE)
        except BackendUnavailable as error:
            reason = str(error)
            outcome = "unconfirmed" if "not confirmed" in reason else "refused"
        resp.media = {"outcome": outcome, "reason": reason}


def connect_via(ports: dict[int, int]) -> None:
    """Connect to other ports than the given ones: the addresses that servers announce are not those of the proxies."""
    open_connection = asyncio.open_connection

    def connect(*arguments: Any, **options: Any) -> Any:
        options["port"] = ports.get(options.get("port", 0), options.get("port"))
        return open_connection(*arguments, **options)

    asyncio.open_connection = connect


class Server(uvicorn.Server):
    """uvicorn's server, which prints the stacks of its tasks on SIGUSR1."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print_tasks)
        await super().startup(sockets)


def print_tasks() -> None:
    """Print the stacks of all tasks but those of single connections."""
    for task in asyncio.all_tasks():
        frames: list[str] = []
        inner: Any = task.get_coro()
        while (frame := getattr(inner, "cr_frame", None)) is not None:
            code = frame.f_code
            frames.append(f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_qualname}")
            inner = getattr(inner, "cr_await", None)
        if not any(
            "run_asgi" in frame_text or "lifecycle.py" in frame_text for frame_text in frames
        ):
            print(task.get_name(), " > ".join(frames), file=sys.stderr, flush=True)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--port", type=int, required=True)
    for name in ("grace", "expiry", "answer", "history"):
        parser.add_argument(f"--{name}-seconds", type=float, required=True)
    parser.add_argument("--history-messages", type=int, required=True)
    parser.add_argument("--handshakes-per-second", type=int, required=True)
    parser.add_argument("--via", nargs=2, type=int, action="append", default=[])
    options: Any = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    connect_via(dict(options.via))
    timing = Timing(
        grace_seconds=options.grace_seconds,
        expiry_seconds=options.expiry_seconds,
        answer_seconds=options.answer_seconds,
    )
    Room.history = History(messages=options.history_messages, seconds=options.history_seconds)
    backend = backend_from_url(options.url, prefix=PREFIX, timing=timing)
    # All users have one address.
    server_limits = ServerLimits(
        handshakes_per_second=options.handshakes_per_second,
        handshake_burst=options.handshakes_per_second,
    )
    app = install(falcon.asgi.App(), backend=backend, server_limits=server_limits)
    app.add_route("/statistics", Statistics(app))
    app.add_route("/presence", Presence(app))
    app.add_route("/close", Closing(app))
    app.add_websocket_route("/ws", Room)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
        http=BoundedHTTPProtocol,
        ws=PushProtocol,
        ws_per_message_deflate=False,
    )
    with socket.create_server(("127.0.0.1", options.port), backlog=1024) as listener:
        Server(config).run([listener])


if __name__ == "__main__":
    main()
