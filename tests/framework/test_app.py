"""``install()``: the extended application, its lifespans, errors at registration."""

from collections.abc import AsyncIterator
from typing import Any

import falcon
import falcon.asgi
import pytest
from falcon.testing import ASGIConductor

from falcon_pachinko import (
    App,
    RegistrationError,
    WebSocketLike,
    WebSocketResource,
    install,
)
from falcon_pachinko.testing import connect, serve


class Room(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        return True


@pytest.fixture
def app() -> App:
    return install(falcon.asgi.App())


class OwnApp(falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]):
    def __init__(self) -> None:
        super().__init__()
        self.mine = "kept"


def test_install_extends_the_application_in_place() -> None:
    plain = falcon.asgi.App()
    installed = install(plain)
    assert installed is plain
    assert len(installed.ws_connection_manager) == 0


def test_install_keeps_a_subclass() -> None:
    app = OwnApp()
    installed: object = install(app)
    assert installed is app
    assert isinstance(app, OwnApp)
    assert app.mine == "kept"
    assert type(app).__name__ == "OwnApp"


def test_applications_share_no_state() -> None:
    one, two = install(falcon.asgi.App()), install(falcon.asgi.App())
    assert one.ws_connection_manager is not two.ws_connection_manager
    assert not hasattr(falcon.asgi.App(), "ws_connection_manager")


def test_second_install_is_rejected(app: App) -> None:
    with pytest.raises(RegistrationError, match="already"):
        install(app)


@pytest.mark.parametrize(
    "origins",
    [
        "https://chat.example.com",
        "*",
        ["https://*.example.com"],
        ["chat.example.com"],
        ["https://A.b"],
    ],
)
def test_invalid_allowed_origins_are_rejected(origins: Any) -> None:
    with pytest.raises(RegistrationError, match="give a list of origins"):
        install(falcon.asgi.App(), allowed_origins=origins)


def test_app_class_can_be_instantiated_directly() -> None:
    app = install(App())
    app.add_websocket_route("/r/{name}", Room)


@pytest.mark.parametrize("app", [falcon.App(), object(), None])
def test_install_needs_an_asgi_application(app: Any) -> None:
    with pytest.raises(RegistrationError, match=r"needs a falcon\.asgi\.App"):
        install(app)


async def test_lifespans_start_in_order_and_stop_in_reverse(app: App) -> None:
    record: list[str] = []

    @app.lifespan
    async def one(given: App) -> AsyncIterator[None]:
        assert given is app
        record.append("one up")
        yield
        record.append("one down")

    @app.lifespan
    async def two(given: App) -> AsyncIterator[None]:
        record.append("two up")
        yield
        record.append("two down")

    async with ASGIConductor(app):
        assert record == ["one up", "two up"]
    assert record == ["one up", "two up", "two down", "one down"]


async def test_failing_lifespan_stops_earlier_ones_and_the_startup(app: App) -> None:
    record: list[str] = []

    @app.lifespan
    async def one(given: App) -> AsyncIterator[None]:
        yield
        record.append("one down")

    @app.lifespan
    async def two(given: App) -> AsyncIterator[None]:
        raise ZeroDivisionError
        yield

    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        async with ASGIConductor(app):
            pass
    assert record == ["one down"]


def test_lifespan_has_to_be_an_async_generator_function(app: App) -> None:
    async def no_yield(given: App) -> None: ...

    with pytest.raises(RegistrationError, match="one 'yield'"):
        app.lifespan(no_yield)


class PlainEcho:
    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = "plain"

    async def on_websocket(self, req: falcon.asgi.Request, ws: falcon.asgi.WebSocket) -> None:
        await ws.accept()
        while True:
            await ws.send_text((await ws.receive_text()).upper())


async def test_plain_falcon_resources_are_unaffected(app: App) -> None:
    app.add_route("/plain", PlainEcho())
    async with ASGIConductor(app) as conductor:
        assert (await conductor.get("/plain")).json == "plain"
        assert (await conductor.get("/missing")).status_code == 404
    async with serve(app) as served:
        async with connect(served.ws_url("/plain")) as client:
            await client.send_raw("hello")
            assert await client.receive_raw() == "HELLO"
            await client.send_raw(b"this one is for nobody")
            assert await client.wait_closed() == (1011, "Internal Server Error")
        with pytest.raises(Exception, match="403"):
            async with connect(served.ws_url("/missing")):
                pass
