"""Django Channels as in its chat tutorial, with its layer in memory or in Redis."""

import json
import os
from typing import Any

import django
from django.conf import settings

layer: dict[str, Any] = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
if url := os.environ.get("BENCH_BACKEND_URL"):
    # NOTE: by default it drops messages beyond 100 pending ones.
    config = {"hosts": [url], "capacity": 100_000}
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}
settings.configure(
    SECRET_KEY="not a secret: only the load client connects",
    CHANNEL_LAYERS={"default": layer},
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402


class RoomConsumer(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        payload = json.loads(text_data or "")["payload"]
        await self.channel_layer.group_send(self.room, {"type": "room.said", "payload": payload})

    async def room_said(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps({"type": "said", "payload": event["payload"]}))


app = ProtocolTypeRouter(
    {"websocket": URLRouter([path("room/<str:room>", RoomConsumer.as_asgi())])}
)
