"""The state of a connection only moves forward, also when both sides close at once."""

import asyncio
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import Connection, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.connection.state import CLOSED, CLOSING, CONNECTING, OPEN, State
from falcon_pachinko.testing import run


def test_the_states_are_in_order() -> None:
    assert list(State) == [CONNECTING, OPEN, CLOSING, CLOSED]


@pytest.mark.parametrize("closes", ["client", "server", "refused"])
async def test_a_connection_passes_through_its_states(closes: str) -> None:
    seen: list[State] = []
    connections: list[Connection] = []

    class Room(WebSocketResource):
        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any
        ) -> bool:
            connections.append(self.connection)
            seen.append(self.connection.state)
            return closes != "refused"

        @handles_message("close")
        async def close(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            seen.append(self.connection.state)
            if closes == "server":
                await ws.close(4000)

        async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
            seen.append(self.connection.state)

    app = install(falcon.asgi.App())
    app.add_websocket_route("/", Room)
    async with run(app) as running:
        if closes == "refused":
            with pytest.raises(Exception, match="403"):
                async with running.connect("/"):
                    pass
        else:
            async with running.connect("/") as client:
                await client.send("close")
                if closes == "server":
                    assert (await client.wait_closed())[0] == 4000
    (connection,) = connections
    async with asyncio.timeout(15):
        while connection.state is not CLOSED:  # noqa: ASYNC110 (the end sets no event)
            await asyncio.sleep(0.001)
    assert seen == ([CONNECTING] if closes == "refused" else [CONNECTING, OPEN, CLOSING])
    await connection.aclose()
    connection.abort(4008, "after the end")
    await connection.close(4001)
    assert connection.state is CLOSED
    assert connection.close_code != 4001
