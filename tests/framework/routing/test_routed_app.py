"""Routes of an application, added to it by template and by name."""

import re
from typing import Any, ClassVar

import falcon.asgi
import pytest

from falcon_pachinko import RegistrationError, WebSocketLike, WebSocketResource, install
from falcon_pachinko.testing import connect

from ..support.servers import SERVERS


class Own(falcon.asgi.App):  # type: ignore[type-arg]
    """An application with a method of its own."""

    added: ClassVar[list[str]] = []

    def add_route(self, uri_template: str, resource: object, **kwargs: object) -> None:
        self.added.append(uri_template)
        super().add_route(uri_template, resource, **kwargs)


def test_an_application_of_a_subclass_adds_its_routes_in_its_own_way() -> None:
    app = install(Own())
    app.add_websocket_route("/ws", WebSocketResource)
    assert Own.added == ["/ws"]
    (route,) = app.ws_routes
    assert route.resource_class is WebSocketResource


class Room(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        await ws.send_media(params)
        return True


@pytest.mark.parametrize("name", sorted(SERVERS))
@pytest.mark.parametrize("root_path", ["", "/site"])
async def test_a_route_is_served_at_the_url_of_its_name(name: str, root_path: str) -> None:
    app = install(falcon.asgi.App(), root_path=root_path)
    app.add_websocket_route("/ws/{name}/{number:int}", Room, name="chat")
    assert app.ws_url_for("chat", name="a b", number=7) == f"{root_path}/ws/a%20b/7"
    async with SERVERS[name](app) as endpoint:
        for room in ("a b", "50% + 1?#", "grün 🎉", "...", "a\\b;c", "%2F"):
            path = app.ws_url_for("chat", name=room, number=7)
            async with connect(endpoint.ws_url(path)) as client:
                assert await client.receive() == {"name": room, "number": 7}


def test_a_name_that_is_no_text_or_of_another_route_is_refused() -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/a/{room}", Room, name="a")
    for name in ("", 5, ["a"]):
        with pytest.raises(RegistrationError, match=re.escape(f"'/b' is {name!r}: give a text")):
            app.add_websocket_route("/b", Room, name=name)  # type: ignore[arg-type]
    same = r"'/a/\{room\}' and '/b' have the same name 'a'"
    with pytest.raises(RegistrationError, match=same):
        app.add_websocket_route("/b", Room, name="a")
    with pytest.raises(RegistrationError, match=same):
        app.add_rooms_route("/b", "/a/{room}", name="a")
    assert [route.uri_template for route in app.ws_routes] == ["/a/{room}"]
    app.add_rooms_route("/b", "/a/{room}", name="b")
    assert (app.ws_url_for("a", room="x"), app.ws_url_for("b")) == ("/a/x", "/b")


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    app = install(falcon.asgi.App())
    with pytest.raises(RegistrationError, match=r"'chat' .none has a name"):
        app.ws_url_for("chat")
    app.add_websocket_route("/a", Room, name="a")
    app.add_websocket_route("/b", Room)
    with pytest.raises(RegistrationError, match=r"the name 'chat' .'a'.$"):
        app.ws_url_for("chat")


def test_a_resource_gets_its_keyword_arguments_but_not_the_name_of_its_route() -> None:
    class Named(Room):
        def __init__(self, *, title: str) -> None: ...

    app = install(falcon.asgi.App())
    app.add_websocket_route("/a", Named, name="a", title="A")
    assert app.ws_routes[0].kwargs == {"title": "A"}
