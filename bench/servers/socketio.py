"""python-socketio with its rooms, and with its Redis manager if there is a Redis."""

import os
from typing import Any
from urllib.parse import parse_qs

import socketio

url = os.environ.get("BENCH_BACKEND_URL")
server = socketio.AsyncServer(
    async_mode="asgi", client_manager=socketio.AsyncRedisManager(url) if url else None
)


@server.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    room = parse_qs(environ["QUERY_STRING"])["room"][0]
    await server.save_session(sid, {"room": room})
    await server.enter_room(sid, room)


@server.event
async def post(sid: str, payload: dict[str, Any]) -> None:
    room = (await server.get_session(sid))["room"]
    await server.emit("said", payload, room=room)


app = socketio.ASGIApp(server)
