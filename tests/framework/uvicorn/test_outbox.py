"""The outbox on uvicorn: one flush of the write batch per close, events in their place."""

import asyncio
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn.write_batch import WriteBatch

WAIT_SECONDS = 15


class Room(WebSocketResource):
    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any) -> bool:
        await self.join_room("room")
        return True

    @handles_message("close")
    async def close(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_text("last")
        await ws.close(4000)


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/", Room)
    return app


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of messages in each flush, empty ones included."""
    counts: list[int] = []
    flush = WriteBatch.flush

    def count_and_flush(batch: WriteBatch) -> None:
        counts.append(len(batch.items))
        flush(batch)

    monkeypatch.setattr(WriteBatch, "flush", count_and_flush)
    return counts


async def wait_closed(app: App) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while len(app.ws_connection_manager):  # noqa: ASYNC110 (the end sets no event)
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("closes", ["client", "lost"])
async def test_the_end_of_a_connection_flushes_the_batch_once(
    app: App, flushes: list[int], closes: str
) -> None:
    async with serve(app, ws=PushProtocol) as served:
        async with served.connect("/") as client:
            flushes.clear()
            if closes == "lost":
                client.socket.transport.abort()
            else:
                await client.close(1000)
            await wait_closed(app)
        assert flushes == [0]


async def test_a_server_side_close_flushes_its_last_message_and_nothing_else(
    app: App, flushes: list[int]
) -> None:
    async with serve(app, ws=PushProtocol) as served:
        async with served.connect("/") as client:
            flushes.clear()
            await client.send("close")
            assert await client.receive_raw() == "last"
            assert (await client.wait_closed())[0] == 4000
            await wait_closed(app)
        # The second one is the callback that the message has scheduled.
        assert flushes == [1, 0]
