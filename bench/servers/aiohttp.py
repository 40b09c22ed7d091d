"""aiohttp as in its documentation: a set of connections per room, and a loop that awaits ``send_str``."""

import json
import socket

import uvloop
from aiohttp import WSMsgType, web

from ..collector import set_collector

rooms: dict[str, dict[web.WebSocketResponse, None]] = {}


async def serve_room(request: web.Request) -> web.WebSocketResponse:
    client = web.WebSocketResponse(compress=False)
    await client.prepare(request)
    # Without an entry in the dictionary of rooms: an echo.
    room = {} if request.path == "/echo" else rooms.setdefault(request.path, {})
    room[client] = None
    try:
        async for message in client:
            if message.type == WSMsgType.TEXT:
                said = json.dumps({"type": "said", "payload": json.loads(message.data)["payload"]})
                for member in list(room):
                    await member.send_str(said)
    finally:
        room.pop(client, None)
    return client


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/{path:.*}", serve_room)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(listener.getsockname()[1], flush=True)
        set_collector()
        loop = uvloop.new_event_loop()
        web.run_app(app, sock=listener, print=None, access_log=None, loop=loop, backlog=4096)
