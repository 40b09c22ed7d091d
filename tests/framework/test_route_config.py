"""The configuration of a route: the route's own values, otherwise those of the resource class."""

import re
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    History,
    Limits,
    RegistrationError,
    RouteConfig,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.route_config import is_origin
from falcon_pachinko.testing import Refused, run

SHORT, LONG = History(messages=5), History(messages=50)
SMALL = Limits(max_message_bytes=20)


class Room(WebSocketResource):
    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any) -> bool:
        await self.join_room("room")
        return True


class KeptRoom(Room):
    history = SHORT
    limits = SMALL


@pytest.fixture
def app() -> App:
    return install(falcon.asgi.App())


def test_a_route_uses_the_values_of_the_class_unless_it_has_its_own(app: App) -> None:
    app.add_websocket_route("/class", KeptRoom)
    app.add_websocket_route("/route", KeptRoom, route_config=RouteConfig(history=LONG))
    by_class, by_route = [route.config for route in app.ws_routes]
    assert (by_class.history, by_class.limits) == (SHORT, SMALL)
    assert (by_route.history, by_route.limits) == (LONG, SMALL)


async def test_a_factory_without_an_annotation_uses_the_values_of_its_resource(app: App) -> None:
    app.add_websocket_route("/kept", lambda: KeptRoom())
    async with run(app) as running, running.connect("/kept") as client:
        assert (await client.receive())["type"] == "serverPosition"
        (connection,) = app.ws_connection_manager
        assert connection.limits is SMALL


async def test_a_subclass_behind_a_declared_factory_uses_its_own_values(app: App) -> None:
    def make() -> Room:
        return KeptRoom()

    app.add_websocket_route("/kept", make)
    async with run(app) as running, running.connect("/kept") as client:
        assert (await client.receive())["type"] == "serverPosition"
        (connection,) = app.ws_connection_manager
        assert connection.limits is SMALL


async def test_any_callable_is_a_factory(app: App) -> None:
    class Factory:
        def __call__(self) -> "os.Missing":  # type: ignore[name-defined]  # noqa: F821
            return KeptRoom()

    app.add_websocket_route("/kept", Factory())
    async with run(app) as running, running.connect("/kept") as client:
        assert (await client.receive())["type"] == "serverPosition"
    (route,) = app.ws_routes
    with pytest.raises(RegistrationError, match="does not declare its return type"):
        _ = route.contract


@pytest.mark.parametrize("name", ["history", "limits"])
async def test_a_value_that_is_set_on_the_resource_is_refused(
    app: App, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Room):
        def __init__(self) -> None:
            setattr(self, name, {"history": LONG, "limits": SMALL}[name])

    app.add_websocket_route("/late", Late)
    async with run(app) as running:
        with pytest.raises(Refused):
            async with running.connect("/late"):
                pass
    assert f"Late sets {name} on the resource" in caplog.text


async def test_a_route_has_origins_of_its_own(app: App) -> None:
    origin = "https://pages.example.com"
    app.add_websocket_route("/own", Room, route_config=RouteConfig(allowed_origins=[origin]))
    app.add_websocket_route("/other", Room)
    async with run(app) as running:
        async with running.connect("/own", origin=origin):
            pass
        with pytest.raises(Refused):
            async with running.connect("/other", origin=origin):
                pass


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"limits": {"outbox_bytes": 5}}, "write limits = Limits(...)"),
        ({"history": 100}, "write history = History(...)"),
        ({"presence_batch": 200}, "write presence_batch=PresenceBatch(...)"),
        ({"allowed_origins": "https://example.com"}, "give a list of origins"),
        ({"allowed_origins": ["https://Example.com"]}, "'https://Example.com'"),
        ({"allowed_origins": ["example.com"]}, "'example.com'"),
    ],
)
def test_an_invalid_value_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(RegistrationError, match=re.escape(problem)):
        RouteConfig(**values)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("https://example.com", True),
        ("http://localhost:8000", True),
        ("https://[::1]:8443", True),
        ("https://example.com/", False),
        ("null", False),
        ("https://", False),
    ],
)
def test_origins_are_those_that_browsers_send(text: str, valid: bool) -> None:
    assert is_origin(text) is valid


async def test_the_second_history_of_a_room_is_refused_at_the_first_join(app: App) -> None:
    errors: list[RegistrationError] = []

    class Late(Room):
        history = LONG

        async def on_connect(
            self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any
        ) -> bool:
            return True

        @handles_message("join")
        async def join(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            try:
                await self.join_room("room")
            except RegistrationError as error:
                errors.append(error)
            await ws.send_media({"type": "done"})

    app.add_websocket_route("/first", KeptRoom)
    app.add_websocket_route("/plain", Room)
    app.add_websocket_route("/second", Late)
    async with run(app) as running:
        async with (
            running.connect("/first") as first,
            running.connect("/plain"),
            running.connect("/second") as second,
        ):
            await first.receive()
            await second.send("join")
            assert await second.receive() == {"type": "done"}
            (error,) = errors
            assert "'room'" in str(error)
            assert repr(SHORT) in str(error)
            assert repr(LONG) in str(error)
        # The room is empty now, so the next declaration is the first one.
        async with running.connect("/second") as second:
            await second.send("join")
            assert (await second.receive())["type"] == "serverPosition"
            assert await second.receive() == {"type": "done"}
        assert app.ws_connection_manager._registry.histories == {}
