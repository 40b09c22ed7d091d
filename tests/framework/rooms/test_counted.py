"""A registry that counts takes the place of one that does not, before the first connection."""

import falcon.asgi

from falcon_pachinko import install
from falcon_pachinko.rooms.counted import CountedAdmission, CountedRegistry, count_events
from falcon_pachinko.testing import run

from ..support.counted import Hall, counted_app


async def test_connections_keep_the_name_of_their_class() -> None:
    app, _ = counted_app()
    app.add_rooms_route("/", "/{name}")
    async with run(app) as running, running.connect("/") as client:
        await client.send("clientJoin", {"room": "alice"})
        await client.receive_until("serverJoined")
        (connection,) = app.ws_connection_manager
        (channel,) = app.ws_connection_manager._registry.channels.values()
        assert repr(connection).startswith("<Connection ")
        assert repr(channel).startswith("<Channel ")
        assert type(connection).__name__ == "Connection"


def test_the_registry_that_counts_replaces_the_other_one() -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{name}", Hall)
    manager = app.ws_connection_manager
    counters = count_events(manager, app.ws_admission)
    assert isinstance(manager._registry, CountedRegistry)
    assert isinstance(app.ws_admission, CountedAdmission)
    assert manager.backend.node is manager._registry
    assert counters is manager.backend.counters
    assert counters.counting
