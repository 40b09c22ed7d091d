"""One conversation by each way that messages take; run it after a change to falcon_pachinko."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import Message, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.testing import Served, serve
from falcon_pachinko.uvicorn import PushProtocol

from ..valkey import running_valkey


class Said(Message, frozen=True):
    text: str


class Hall(WebSocketResource):
    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, name: str) -> bool:
        await self.join_room("hall", join_message=f"{name} joined")
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, text: str) -> None:
        await self.broadcast_to_room("hall", Said(text=text))


def serve_hall(url: str = "", protocol: Any = PushProtocol) -> AbstractAsyncContextManager[Served]:
    app = install(falcon.asgi.App(), backend=backend_from_url(url))
    app.add_websocket_route("/hall/{name}", Hall)
    return serve(app, ws=protocol)


async def converse(one: Served, two: Served) -> None:
    """Two clients exchange messages, one of them sends an invalid one, and a server stops."""
    async with one.connect("/hall/alice") as alice, two.connect("/hall/bob") as bob:
        assert await alice.receive_raw() == '"bob joined"'
        for number in range(100):
            await (alice, bob)[number % 2].send("say", str(number))
            said = Said(text=str(number))
            assert [await alice.receive(Said), await bob.receive(Said)] == [said, said]
        await bob.send("say", 1)
        assert (await bob.receive())["type"] == "serverError"
        two.stop()
        assert (await bob.wait_closed())[0] == 1012


@pytest.mark.parametrize("protocol", [PushProtocol, "websockets-sansio"], ids=["push", "plain"])
async def test_a_conversation_in_one_process(protocol: Any) -> None:
    async with serve_hall(protocol=protocol) as served:
        await converse(served, served)


async def test_a_conversation_of_two_nodes_over_valkey() -> None:
    with running_valkey() as valkey:
        async with serve_hall(valkey.url) as one, serve_hall(valkey.url) as two:
            await converse(one, two)
