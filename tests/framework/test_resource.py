"""The base class of resources: its defaults and its error replies."""

from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    History,
    Limits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.testing import run


class Counter(WebSocketResource):
    @handles_message("add")
    async def add(self, ws: WebSocketLike, payload: dict[str, int]) -> None:
        await ws.send_media({"sum": sum(payload.values())})


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/", Counter)
    return app


async def test_a_resource_without_on_connect_accepts(app: App) -> None:
    async with run(app) as running, running.connect("/") as client:
        await client.send("add", {"a": 1, "b": 2})
        assert await client.receive() == {"sum": 3}


@pytest.mark.parametrize(
    "message", ["not JSON", '{"type": "other"}', "[]", '{"payload": {}}', b"\x00"]
)
async def test_an_unhandled_message_gets_an_error_reply(app: App, message: str | bytes) -> None:
    async with run(app) as running, running.connect("/") as client:
        await client.send_raw(message)
        reply = await client.receive()
        assert (reply["type"], reply["payload"]["code"]) == ("serverError", "unknownMessage")
        await client.send("add")
        assert await client.receive() == {"sum": 0}


async def test_an_invalid_payload_gets_an_error_reply_that_names_the_field(app: App) -> None:
    async with run(app) as running, running.connect("/") as client:
        await client.send("add", {"a": "one"})
        reply = await client.receive()
        assert reply["payload"] == {
            "code": "invalidPayload",
            "error": "add has an invalid payload in '[...]': Expected `int`, got `str`.",
            "field": "[...]",
        }


async def test_a_message_that_no_slow_client_could_take_is_refused_and_not_sent(app: App) -> None:
    class Room(WebSocketResource):
        limits = Limits(outbox_bytes=10_000)
        history = History()

        async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
            return await self.join_room("room")

        @handles_message("say")
        async def say(self, ws: WebSocketLike, payload: dict[str, str]) -> None:
            await self.broadcast_to_room("room", {"type": "said", "payload": payload})

    app.add_websocket_route("/room", Room)
    async with run(app) as running, running.connect("/room") as client:
        assert (await client.receive())["type"] == "serverPosition"
        # NOTE: JSON escapes a control character with six bytes.
        for text in ("\x01" * 1_700, "x" * 4_000, "\x01" * 1_600):
            await client.send("say", {"text": text})
        refused, *said = [await client.receive() for _ in range(3)]
        assert refused["type"] == "serverError"
        assert refused["payload"]["code"] == "messageTooLarge"
        assert [message["payload"]["text"] for message in said] == ["x" * 4_000, "\x01" * 1_600]
        assert [message["id"].partition(":")[2] for message in said] == ["1", "2"]


def test_the_base_class_reserves_no_attribute_of_the_use_case() -> None:
    assert not hasattr(WebSocketResource, "user")
    assert not hasattr(WebSocketResource, "room_name")


async def test_a_reply_to_a_closed_connection_is_not_sent(app: App) -> None:
    class Closing(Counter):
        @handles_message("bye")
        async def bye(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            await ws.close(4000)
            await self.on_unhandled(ws, "after the close")

    app.add_websocket_route("/closing", Closing)
    async with run(app) as running, running.connect("/closing") as client:
        await client.send("bye")
        assert (await client.wait_closed())[0] == 4000
