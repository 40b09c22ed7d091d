"""The push extension is used only if the application gets the server's own receive and send."""

from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketResource, install
from falcon_pachinko.connection.extension import PUSH_EXTENSION
from falcon_pachinko.connection.inbox import ASGIInbox
from falcon_pachinko.connection.outbox import ASGIOutbox
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn.input import PushInbox
from falcon_pachinko.uvicorn.outbox import PushOutbox


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/", WebSocketResource)
    return app


async def test_the_extension_replaces_inbox_and_outbox(app: App) -> None:
    async with serve(app, ws=PushProtocol) as served, served.connect("/"):
        (connection,) = app.ws_connection_manager
        assert isinstance(connection._outbox, PushOutbox)
        assert isinstance(connection._inbox, PushInbox)


@pytest.mark.parametrize("wrapped", ["receive", "send"])
async def test_a_wrapper_around_the_events_disables_the_extension(app: App, wrapped: str) -> None:
    offered: list[bool] = []

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            offered.append(PUSH_EXTENSION in scope["extensions"])

        async def own_receive() -> Any:
            return await receive()

        async def own_send(event: Any) -> None:
            await send(event)

        if wrapped == "receive":
            await app(scope, own_receive, send)
        else:
            await app(scope, receive, own_send)

    async with serve(middleware, ws=PushProtocol) as served, served.connect("/"):
        (connection,) = app.ws_connection_manager
        assert isinstance(connection._outbox, ASGIOutbox)
        assert isinstance(connection._inbox, ASGIInbox)
    assert offered == [True]


async def test_another_protocol_class_offers_no_extension(app: App) -> None:
    async with serve(app) as served, served.connect("/"):
        (connection,) = app.ws_connection_manager
        assert isinstance(connection._outbox, ASGIOutbox)
