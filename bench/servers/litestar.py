"""Litestar with its channels plugin in memory: a subscription and a task for each connection."""

from typing import Any

from litestar import Litestar, WebSocket, websocket
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.exceptions import WebSocketDisconnect


@websocket("/room/{room:str}")
async def serve_room(socket: WebSocket[Any, Any, Any], channels: ChannelsPlugin, room: str) -> None:
    await socket.accept()
    async with (
        channels.start_subscription(room) as subscriber,
        subscriber.run_in_background(socket.send_text),
    ):
        try:
            while True:
                message = await socket.receive_json()
                channels.publish({"type": "said", "payload": message["payload"]}, room)
        except WebSocketDisconnect:
            pass


backend = MemoryChannelsBackend()
app = Litestar(
    route_handlers=[serve_room],
    plugins=[ChannelsPlugin(backend, arbitrary_channels_allowed=True)],
)
