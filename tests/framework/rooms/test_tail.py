"""The messages to a room or a user, as the operator of the process gets them while a tail runs."""

import asyncio
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, install
from falcon_pachinko.publication import Publication
from falcon_pachinko.rooms import tail as tail_module
from falcon_pachinko.rooms.tail import Tail, Tails
from falcon_pachinko.testing import run


class Lobby(WebSocketResource):
    """Joins the room of its path, as the user in the query."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, room: str, **params: Any
    ) -> bool:
        self.connection.user = req.get_param("user")
        await self.join_room(room)
        return True


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/{room}", Lobby)
    return app


async def texts_of(tail: Tail) -> list[tuple[str | None, str]]:
    """Return the rooms and the texts of a tail."""
    return [(each.room, each.text) for each in await tail.take(0)]


async def test_the_tail_of_a_room_has_its_messages_and_no_others(app: App) -> None:
    manager = app.ws_connection_manager
    async with run(app) as running, running.connect("/red?user=alice") as alice:
        with Tails(manager).open(rooms=["red"]) as tail:
            await manager.broadcast_to_room("red", [1])
            await manager.broadcast_to_room("blue", [2])
            await manager.send_to_user("alice", [3])
            await manager.broadcast_to_room("red", Publication.of_bytes(b"\xff\x00"))
            taken = await tail.take(5)
        assert [(each.room, each.size_bytes, each.text) for each in taken] == [
            ("red", 3, "[1]"),
            ("red", 2, ""),
        ]
        assert [await alice.receive() for _ in range(2)] == [[1], [3]]


async def test_the_tail_of_a_user_has_what_is_delivered_to_the_user(app: App) -> None:
    manager = app.ws_connection_manager
    async with (
        run(app) as running,
        running.connect("/red?user=alice"),
        running.connect("/blue?user=bob"),
    ):
        connections = {each.user: each for each in manager}
        with Tails(manager).open(user="alice") as tail:
            await manager.broadcast_to_room("red", [1])
            await manager.broadcast_to_room("red", [2], exclude=[connections["alice"]])
            await manager.broadcast_to_room("red", [3], exclude_users=["alice"])
            await manager.broadcast_to_room("blue", [4])
            await manager.send_to_user("alice", [5])
            await manager.send_to_user("bob", [6])
            await manager.send_to_connection(connections["alice"].id, [7])
            await manager.send_to_connection(connections["bob"].id, [8])
            await manager.broadcast_to_all([9])
            assert await texts_of(tail) == [
                ("red", "[1]"),
                (None, "[5]"),
                (None, "[7]"),
                (None, "[9]"),
            ]


async def test_without_a_tail_no_message_passes_through_its_code(app: App) -> None:
    manager = app.ws_connection_manager
    registry, tails = manager._registry, Tails(manager)
    methods = {"deliver", "deliver_direct"}
    assert not methods & vars(registry).keys()
    with tails.open(rooms=["red"]):
        with tails.open(user="alice"):
            assert methods <= vars(registry).keys()
        assert methods <= vars(registry).keys()
    assert not methods & vars(registry).keys()
    assert tails.running == []


async def test_a_reader_that_is_slow_loses_messages_with_a_count(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "MAX_QUEUED", 2)
    monkeypatch.setattr(tail_module, "MAX_SHOWN_BYTES", 4)
    manager = app.ws_connection_manager
    with Tails(manager).open(rooms=["red"]) as tail:
        for _ in range(5):
            await manager.broadcast_to_room("red", "abcdefg")
        assert await texts_of(tail) == [("red", '"abc')] * 2
        assert tail.dropped == 3
        await manager.broadcast_to_room("red", 1)
        assert await texts_of(tail) == [("red", "1")]


async def test_a_tail_waits_for_the_next_message_within_its_timeout(app: App) -> None:
    manager = app.ws_connection_manager
    with Tails(manager).open(rooms=["red"]) as tail:
        assert await tail.take(0.01) == []
        taking = asyncio.create_task(tail.take(5))
        await asyncio.sleep(0)
        await manager.broadcast_to_room("red", [1])
        assert [each.text for each in await taking] == ["[1]"]


async def test_methods_of_traces_stay_in_place_during_and_after_a_tail(app: App) -> None:
    manager, delivered = app.ws_connection_manager, list[str]()
    registry = manager._registry
    deliver = registry.deliver

    def traced(room: str, publication: Publication) -> None:
        delivered.append(room)
        deliver(room, publication)

    async with run(app):
        vars(registry)["deliver"] = traced
        with Tails(manager).open(rooms=["red"]) as tail:
            await manager.broadcast_to_room("red", [1])
            assert await texts_of(tail) == [("red", "[1]")]
        await manager.broadcast_to_room("red", [2])
        assert delivered == ["red", "red"]
        assert vars(registry).pop("deliver") is traced
        assert "deliver_direct" not in vars(registry)
