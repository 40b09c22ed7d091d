"""Starlette as in FastAPI's documentation: a list of connections, and a loop that awaits ``send_text`` of each."""

import json
from collections import defaultdict

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


class ConnectionManager:
    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def broadcast(self, message: str) -> None:
        # A copy, because a connection may end while another one is awaited.
        for connection in list(self.active_connections):
            await connection.send_text(message)


managers: defaultdict[str, ConnectionManager] = defaultdict(ConnectionManager)


async def serve_room(websocket: WebSocket) -> None:
    await websocket.accept()
    path = websocket.url.path
    # Without an entry in the dictionary of managers: an echo.
    manager = ConnectionManager() if path == "/echo" else managers[path]
    manager.active_connections.append(websocket)
    try:
        while True:
            payload = json.loads(await websocket.receive_text())["payload"]
            await manager.broadcast(json.dumps({"type": "said", "payload": payload}))
    except WebSocketDisconnect:
        pass
    finally:
        manager.active_connections.remove(websocket)


app = Starlette(routes=[WebSocketRoute("/{path:path}", serve_room)])
