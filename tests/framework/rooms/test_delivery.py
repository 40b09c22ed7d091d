"""Delivery in a process: to the members of a room, to named connections, to all."""

from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, install
from falcon_pachinko.history import Position
from falcon_pachinko.publication import Publication
from falcon_pachinko.testing import run


class Hall(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = name
        await self.join_room("hall")
        return True


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", Hall)
    return app


async def test_nothing_is_kept_of_a_message_to_a_room_without_members(app: App) -> None:
    registry = app.ws_connection_manager._registry
    message = Publication.to_room("hello", ("nobody",))
    message.number(Position("epoch", 1), 0, shown=False)
    registry.deliver("nowhere", message)
    kept: list[dict[str, Any]] = [registry.fanouts, registry.heartbeats.partial]
    assert [*kept, registry.traffic.rooms] == [{}, {}, {}]


async def test_a_message_reaches_its_recipients_and_no_others(app: App) -> None:
    registry = app.ws_connection_manager._registry
    async with (
        run(app) as running,
        running.connect("/alice") as alice,
        running.connect("/bob") as bob,
    ):
        first, second = (each.id for each in app.ws_connection_manager)
        assert registry.find(first) is not registry.find(second)
        assert registry.find("nobody") is None
        registry.deliver("hall", Publication.to_room("to others", (second,)))
        registry.deliver_direct(Publication.direct("to a user", user="alice"))
        registry.deliver_direct(Publication.direct("to a connection", connection=first))
        registry.deliver_direct(Publication.direct("to nobody", connection="nobody"))
        registry.deliver_direct(Publication.to_room("to all"))
        registry.deliver("hall", Publication("to the room"))
        expected = ["to others", "to a user", "to a connection", "to all", "to the room"]
        assert [await alice.receive() for _ in expected] == expected
        assert [await bob.receive() for _ in range(2)] == ["to all", "to the room"]
