"""Starlette: a list of connections per room, and a loop that awaits ``send_json`` of each."""

from collections import defaultdict

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

rooms: defaultdict[str, list[WebSocket]] = defaultdict(list)


async def room(websocket: WebSocket) -> None:
    await websocket.accept()
    members = rooms[websocket.path_params["room"]]
    members.append(websocket)
    try:
        while True:
            message = await websocket.receive_json()
            for member in list(members):
                await member.send_json({"type": "said", "payload": message["payload"]})
    except WebSocketDisconnect:
        pass
    finally:
        members.remove(websocket)


app = Starlette(routes=[WebSocketRoute("/room/{room}", room)])
