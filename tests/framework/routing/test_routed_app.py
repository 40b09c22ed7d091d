"""Routes of an application, added to it by template and by name."""

from typing import ClassVar

import falcon.asgi

from falcon_pachinko import WebSocketResource, install


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
