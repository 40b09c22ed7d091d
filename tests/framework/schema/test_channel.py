"""The channels of a document: routes with their messages."""

from typing import Any

import falcon.asgi

from falcon_pachinko import (
    Message,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.schema.channel import build_channels


class ServerRolled(Message, frozen=True):
    value: int


class ServerTold(Message, frozen=True):
    text: str


class DiceResource(WebSocketResource):
    sends = (ServerTold,)

    @handles_message("roll")
    async def roll(self, ws: WebSocketLike, payload: dict[str, Any]) -> ServerRolled:
        return ServerRolled(value=4)


def test_a_channel_is_named_after_its_class_and_has_the_replies_among_its_messages() -> None:
    app = install(falcon.asgi.App())
    for path in ("/dice", "/more"):
        app.add_websocket_route(path, DiceResource)
    first, second = build_channels(app.ws_routes)
    assert (first.name, second.name) == ("dice", "dice2")
    assert {each.name: each.has_ref for each in first.messages["receive"]} == {
        "roll": True,
        "clientPing": True,
        "clientReply": True,
    }
    assert {each.name: each.has_ref for each in first.messages["send"]} == {
        "serverTold": False,
        "serverRolled": True,
        "serverSessionExpiring": False,
        "serverError": True,
        "serverPong": True,
    }
