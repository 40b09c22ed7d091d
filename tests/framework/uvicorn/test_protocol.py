"""The protocol for uvicorn: the fallback, the events for Falcon, the release of ended connections."""

import inspect
from typing import Any

import falcon.asgi
import pytest
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.connection.outbox import ASGIOutbox
from falcon_pachinko.testing import connect, serve
from falcon_pachinko.uvicorn import PushProtocol, protocol

from ..support.virtual_transport import PushClient, SteppedLoop


class Burst(WebSocketResource):
    @handles_message("burst")
    async def burst(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for number in range(100):
            await ws.send_media({"number": number})


async def test_unknown_uvicorn_version_falls_back_to_the_portable_outbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "REQUIRED_ATTRIBUTES", ("gone in a later version",))
    app = install(falcon.asgi.App())
    app.add_websocket_route("/lobby", Burst)
    async with (
        serve(app, ws=PushProtocol) as served,
        connect(served.ws_url("/lobby")) as bob,
    ):
        await bob.send("burst")
        assert len([await bob.receive() for _ in range(100)]) == 100
        (connection,) = app.ws_connection_manager
        assert isinstance(connection._outbox, ASGIOutbox)


@pytest.mark.parametrize("name", protocol.REQUIRED_ATTRIBUTES)
def test_the_installed_uvicorn_has_the_attribute(name: str) -> None:
    source = WebSocketsSansIOProtocol
    assert issubclass(protocol.PushSansIOProtocol, source)
    assert hasattr(source, name) or f"self.{name}" in inspect.getsource(source)


async def test_falcons_own_resources_receive_all_kinds_of_events() -> None:
    class Plain:
        async def on_websocket(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
            await ws.accept()
            text, data = await ws.receive_text(), await ws.receive_data()
            await ws.send_text(text.upper())
            await ws.send_data(data[::-1])
            with pytest.raises(falcon.WebSocketDisconnected):
                await ws.receive_text()

    app: App = install(falcon.asgi.App())
    app.add_route("/plain", Plain())
    async with serve(app, ws=PushProtocol) as served, connect(served.ws_url("/plain")) as client:
        await client.send_raw("text")
        await client.send_raw(b"\x01\x02")
        assert await client.receive_raw() == "TEXT"
        assert await client.receive_raw() == b"\x02\x01"


def test_a_client_that_is_lost_right_before_the_accept_is_not_an_error_of_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = SteppedLoop()

    class Door(WebSocketResource):
        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any
        ) -> bool:
            # The loss comes after the last look at the client, in the iteration of the accept.
            loop.call_soon(loop.call_soon, client.vanish)
            return True

    app = install(falcon.asgi.App())
    app.add_websocket_route("/", Door)
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws_ping_interval=None)
    config.load()
    client = PushClient(app, "/", lambda: None, config=config)

    async def scenario() -> None:
        client.connect()
        await loop.run_until_idle()

    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()
    assert client.task.done()
    assert client.violations == []
    assert loop.failures == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert len(app.ws_connection_manager) == 0


def test_the_event_that_connections_share_cannot_be_cleared() -> None:
    assert protocol.WRITABLE.is_set()
    with pytest.raises(RuntimeError, match="shared"):
        protocol.WRITABLE.clear()
