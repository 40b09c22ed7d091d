"""Chanx over fast-channels with its layer in memory."""

from typing import Literal

from chanx.core.decorators import channel, ws_handler
from chanx.fast_channels.websocket import AsyncJsonWebsocketConsumer
from chanx.messages.base import BaseMessage
from fast_channels.layers import InMemoryChannelLayer, register_channel_layer
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute


class Text(BaseModel):
    text: str


class Post(BaseMessage):
    action: Literal["post"] = "post"
    payload: Text


class Said(BaseMessage):
    action: Literal["said"] = "said"
    payload: Text


@channel(name="room")
class RoomConsumer(AsyncJsonWebsocketConsumer):
    channel_layer_alias = "default"

    async def post_authentication(self) -> None:
        await self.join_group(self.url_params["room"])

    @ws_handler(output_type=Said)
    async def post(self, message: Post) -> None:
        await self.broadcast_message(Said(payload=message.payload))


register_channel_layer("default", InMemoryChannelLayer())

app = Starlette(routes=[WebSocketRoute("/room/{room}", RoomConsumer.as_asgi())])
