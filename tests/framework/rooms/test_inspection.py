"""The state of a process as its operator gets it."""

import asyncio
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    BackendUnavailable,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.rooms import inspection
from falcon_pachinko.rooms.counted import count_events
from falcon_pachinko.rooms.inspection import EventCounts, RedisView, RoomView, take_snapshot
from falcon_pachinko.testing import Running, run

from ..support.backends import wait_until
from ..support.redis_servers import RedisServer


class Lobby(WebSocketResource):
    """Joins the room of its path, as the user in the query."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, room: str, **params: Any
    ) -> bool:
        self.connection.user = req.get_param("user")
        await self.join_room(room)
        await self.join_room("all")
        return room != "nowhere"

    @handles_message("end")
    async def end(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.close(payload["code"], "as asked")


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/rooms/{room}", Lobby)
    return app


async def end_one(running: Running, code: int) -> None:
    """Let a connection end with a code."""
    async with running.connect("/rooms/red?user=carol") as client:
        await client.send("end", {"code": code})
        assert (await client.wait_closed())[0] == code


async def test_a_snapshot_has_rooms_connections_and_close_codes(app: App) -> None:
    manager = app.ws_connection_manager
    async with run(app) as running:
        for code in (4001, 4001, 4002):
            await end_one(running, code)
        async with asyncio.timeout(5):
            await manager._registry.wait_empty()
        async with (
            running.connect("/rooms/red?user=alice"),
            running.connect("/rooms/blue?user=alice"),
            running.connect("/rooms/red"),
        ):
            found = take_snapshot(manager)
            assert found.rooms == [
                RoomView("all", users=1, connections=3),
                RoomView("red", users=1, connections=2),
                RoomView("blue", users=1, connections=1),
            ]
            assert (found.room_count, found.connection_count, found.pending_count) == (3, 3, 0)
            assert found.closes == {4001: 2, 4002: 1}
            views = {(each.user, tuple(each.rooms)): each for each in found.connections}
            assert views.keys() == {
                ("alice", ("red", "all")),
                ("alice", ("blue", "all")),
                (None, ("red", "all")),
            }
            for view in found.connections:
                assert view.route == "/rooms/{room}"
                assert view.backlog_bytes == 0
                assert 0 <= view.seconds < 60
                assert view.room_count == 2
            assert [each.seconds for each in found.connections] == sorted(
                (each.seconds for each in found.connections), reverse=True
            )


async def test_the_snapshot_of_a_user_has_the_users_connections_and_rooms(app: App) -> None:
    async with (
        run(app) as running,
        running.connect("/rooms/red?user=alice"),
        running.connect("/rooms/blue?user=bob"),
    ):
        found = take_snapshot(app.ws_connection_manager, "alice")
        assert [each.user for each in found.connections] == ["alice"]
        assert {each.name for each in found.rooms} == {"red", "all"}
        assert (found.room_count, found.connection_count) == (3, 2)
        nobody = take_snapshot(app.ws_connection_manager, "nobody")
        assert (nobody.rooms, nobody.connections, nobody.connection_count) == ([], [], 2)


async def test_a_connection_in_several_rooms_is_one_with_all_of_them(app: App) -> None:
    app.add_rooms_route("/ws", "/rooms/{room}")
    async with run(app) as running, running.connect("/ws") as client:
        await client.join("red")
        await client.join("blue")
        found = take_snapshot(app.ws_connection_manager)
        (view,) = found.connections
        assert (view.route, view.room_count) == ("/ws", 4)
        assert set(view.rooms) == {"red", "blue", "all"}
        assert RoomView("all", users=0, connections=2) in found.rooms


async def test_a_refused_handshake_counts_as_no_end(app: App) -> None:
    async with run(app) as running:
        with pytest.raises(Exception, match="403"):
            await running.connect("/rooms/nowhere").__aenter__()
        assert take_snapshot(app.ws_connection_manager).closes == {}


async def test_events_are_shown_only_if_they_are_counted(app: App) -> None:
    manager = app.ws_connection_manager
    async with run(app) as running, running.connect("/rooms/red"):
        assert take_snapshot(manager).counts is None
    count_events(manager, app.ws_admission)
    async with run(app) as running:
        await end_one(running, 4001)
        async with running.connect("/rooms/red") as client:
            await manager.broadcast_to_room("all", {"type": "hello", "payload": {}})
            await client.receive()
            counts = take_snapshot(manager).counts
            assert counts == EventCounts(accepts=2, messages_in=1, messages_out=1)


@pytest.mark.redis
async def test_redis_is_shown_if_there_is_one(app: App, redis_server: RedisServer) -> None:
    async with run(app):
        assert take_snapshot(app.ws_connection_manager).redis is None
    backend = backend_from_url(redis_server.url, prefix="inspection")
    over_redis = install(falcon.asgi.App(), backend=backend)
    over_redis.add_websocket_route("/rooms/{room}", Lobby)
    async with run(over_redis) as running, running.connect("/rooms/red"):
        view = redis_of(over_redis)
        assert (view.outage, view.unavailable_seconds) == ("", 0.0)
        assert view.calls > 0
        assert view.call_seconds > 0
        redis_server.pause()
        try:
            with pytest.raises(BackendUnavailable):
                await over_redis.ws_connection_manager.get_rooms_by_prefix("")
            await wait_until(lambda: redis_of(over_redis).unavailable_seconds > 0)
            assert redis_of(over_redis).outage == backend.outage != ""
        finally:
            redis_server.resume()
        await wait_until(lambda: not redis_of(over_redis).outage)
        assert redis_of(over_redis).unavailable_seconds > 0


def redis_of(app: App) -> RedisView:
    """Return the connection to Redis in a snapshot."""
    view = take_snapshot(app.ws_connection_manager).redis
    assert view is not None
    return view


async def test_lists_are_bounded_and_counts_are_not(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAX_LISTED", "MAX_LISTED_ROOMS_OF_CONNECTION", "MAX_LISTED_CODES"):
        monkeypatch.setattr(inspection, name, 1)
    async with run(app) as running:
        for code in (4001, 4002, 4002):
            await end_one(running, code)
        async with asyncio.timeout(5):
            await app.ws_connection_manager._registry.wait_empty()
        async with running.connect("/rooms/red"), running.connect("/rooms/blue"):
            found = take_snapshot(app.ws_connection_manager)
            assert [each.name for each in found.rooms] == ["all"]
            assert found.room_count == 3
            (view,) = found.connections
            assert (len(view.rooms), view.room_count, found.connection_count) == (1, 2, 2)
            assert found.closes == {4002: 2}
