"""Idle clients get a heartbeat: in time, only if they are idle, and with a position that they have."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    History,
    Limits,
    RouteConfig,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.rooms.heartbeat import MAX_BATCH, HeartbeatSweep
from falcon_pachinko.testing import Client, connect, serve
from falcon_pachinko.uvicorn import PushProtocol

from ..support.backends import TIMING, prefixes
from ..support.redis_servers import RedisServer, running_redis
from ..support.servers import SERVERS as ALL_SERVERS

SOON = Limits(heartbeat_seconds=0.1)
# Long enough that a busy machine does not make an active client look idle.
RELAXED = Limits(heartbeat_seconds=1.0)
WAIT_SECONDS = 20.0
HISTORY = History(messages=50, seconds=60.0)
SERVERS: dict[str, Any] = {"push": PushProtocol, "plain": "websockets-sansio"}


class Hall(WebSocketResource):
    """Each client joins the rooms in its URL."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, rooms: str, **params: Any
    ) -> bool:
        self.rooms = rooms.split(",") if rooms != "none" else []
        for room in self.rooms:
            await self.join_room(room)
        return True

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room(self.rooms[0], {"type": "posted", "payload": {}}, **payload)

    @handles_message("list")
    async def list(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room(self.rooms[0], ["no object, so no id"])

    @handles_message("reply")
    async def reply(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media({"type": "replied", "payload": {}, **payload})


def hall_app(limits: Limits, history: History | None = HISTORY, **options: Any) -> App:
    app = install(falcon.asgi.App(), **options)
    app.add_websocket_route(
        "/{rooms}", Hall, route_config=RouteConfig(limits=limits, history=history)
    )
    return app


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as redis_server:
        yield redis_server


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Any:
    return SERVERS[request.param]


def is_heartbeat(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message["type"] == "serverPosition"
        and "connection" not in message["payload"]
    )


async def next_heartbeat(client: Client) -> Any:
    """Return the next heartbeat."""
    while not is_heartbeat(message := await client.receive(timeout_seconds=WAIT_SECONDS)):
        pass
    return message


@pytest.mark.parametrize("name", ALL_SERVERS)
async def test_an_idle_client_of_a_room_with_history_gets_its_position_again(name: str) -> None:
    async with (
        ALL_SERVERS[name](hall_app(SOON)) as served,
        connect(served.ws_url("/hall")) as client,
    ):
        first = await client.receive()
        assert first["payload"].keys() == {"connection", "heartbeatSeconds"}
        assert first["payload"]["heartbeatSeconds"] == 0.1
        repeated = {
            "type": "serverPosition",
            "payload": {"heartbeatSeconds": 0.1},
            "id": first["id"],
        }
        assert [await client.receive() for _ in range(3)] == [repeated] * 3
        await client.send("post")
        posted = [await client.receive()]
        while is_heartbeat(posted[-1]):
            posted.append(await client.receive())
        assert await client.receive() == {**repeated, "id": posted[-1]["id"]}


async def test_a_history_of_a_route_announces_20_seconds_by_default() -> None:
    async with serve(hall_app(Limits())) as served, served.connect("/hall") as client:
        assert (await client.receive())["payload"]["heartbeatSeconds"] == 20


async def test_a_route_without_history_has_a_heartbeat_only_if_it_is_switched_on(
    server: Any,
) -> None:
    async with serve(hall_app(SOON, None), ws=server) as served, served.connect("/hall") as client:
        heartbeat = {"type": "serverPosition", "payload": {"heartbeatSeconds": 0.1}}
        assert [await client.receive() for _ in range(3)] == [heartbeat] * 3
    for limits, history in ((Limits(), None), (Limits(heartbeat_seconds=math.inf), HISTORY)):
        app = hall_app(limits, history)
        async with serve(app, ws=server) as served, served.connect("/hall") as client:
            if history is not None:
                assert (await client.receive())["payload"].keys() == {"connection"}
            await client.send("post")
            assert (await client.receive())["type"] == "posted"
            assert app.ws_connection_manager._registry.heartbeats.sweeps == {}


async def test_a_client_without_a_room_gets_heartbeats_without_a_position(server: Any) -> None:
    async with serve(hall_app(SOON), ws=server) as served, served.connect("/none") as client:
        heartbeat = {"type": "serverPosition", "payload": {"heartbeatSeconds": 0.1}}
        assert [await client.receive() for _ in range(2)] == [heartbeat] * 2


async def test_a_client_that_receives_messages_gets_no_heartbeat(server: Any) -> None:
    app = hall_app(RELAXED)
    async with (
        serve(app, ws=server) as served,
        served.connect("/quiet") as quiet,
        served.connect("/busy") as in_busy_room,
        served.connect("/other") as with_replies,
    ):

        async def be_busy() -> None:
            while True:
                await in_busy_room.send("post")
                await with_replies.send("reply")
                await asyncio.sleep(0.02)

        busy = asyncio.create_task(be_busy())
        for _ in range(2):
            await next_heartbeat(quiet)
        busy.cancel()
        for client, expected in ((in_busy_room, "posted"), (with_replies, "replied")):
            await client.send("reply", {"type": "end"})
            first, *received = await client.receive_until("end")
            assert first["type"] == "serverPosition"
            assert {each["type"] for each in received[:-1]} == {expected}


async def test_messages_that_exclude_a_client_are_neither_activity_nor_a_gap() -> None:
    async with (
        serve(hall_app(SOON), ws=PushProtocol) as served,
        served.connect("/hall") as alice,
        served.connect("/hall") as bob,
    ):
        first = await alice.receive()
        await bob.receive()
        for _ in range(3):
            await alice.send("post", {"exclude_self": True})
            posted = await bob.receive()
            while is_heartbeat(posted):
                posted = await bob.receive()
        assert posted["id"] != first["id"]
        # The position is that up to which each member has all messages meant for it.
        for client in (alice, bob, alice):
            assert (await next_heartbeat(client))["id"] == first["id"]
        await bob.send("post")
        posted = await alice.receive_until("posted")
        assert (await next_heartbeat(alice))["id"] == posted[-1]["id"]
        await bob.receive_until("posted")
        await bob.send("list")
        while (message := await alice.receive()) != ["no object, so no id"]:
            assert is_heartbeat(message)
        assert (await next_heartbeat(alice))["id"] == posted[-1]["id"]
        assert (await next_heartbeat(bob))["id"] == posted[-1]["id"]


async def test_the_rooms_of_a_client_take_turns() -> None:
    async with serve(hall_app(SOON)) as served, served.connect("/one,two,three") as client:
        positions = {(await client.receive())["id"] for _ in range(3)}
        heartbeats = [(await next_heartbeat(client))["id"] for _ in range(9)]
        assert len(positions) == 3
        assert set(heartbeats) == positions


async def test_a_client_that_does_not_read_gets_no_heartbeat(server: Any) -> None:
    app = hall_app(SOON)
    manager = app.ws_connection_manager
    async with (
        serve(app, ws=server) as served,
        served.connect("/quiet") as quiet,
        served.connect("/slow", small_buffer=True) as slow,
    ):
        await slow.receive()
        slow.pause_reading()
        connection = next(each for each in manager if manager._registry.synced.has(each, "slow"))
        while not connection._outbox.waiting or not connection._outbox.backlog.count:
            await manager.broadcast_to_room("slow", {"type": "posted", "payload": "x" * 5_000})
            await asyncio.sleep(0)
        pending = connection._outbox.backlog.count
        for _ in range(5):
            await next_heartbeat(quiet)
        assert connection._outbox.waiting
        assert 0 < connection._outbox.backlog.count <= pending
        waiting = [publication.data for publication in connection._outbox.backlog.messages]
        assert not [data for data in waiting if b"serverPosition" in data]
        slow.vanish()


async def test_nothing_runs_after_the_last_connection() -> None:
    app = hall_app(SOON)
    heartbeats = app.ws_connection_manager._registry.heartbeats
    async with serve(app) as served:
        async with served.connect("/hall") as alice, served.connect("/hall") as bob:
            await alice.send("post", {"exclude_self": True})
            await bob.receive_until("posted")
            (sweep,) = heartbeats.sweeps.values()
            assert sweep.count == 2
            assert heartbeats.partial.keys() == {"hall"}
        await app.ws_connection_manager._registry.wait_empty()
        assert (heartbeats.sweeps, heartbeats.partial) == ({}, {})
        assert sweep.timer is not None
        assert sweep.timer.cancelled()


@pytest.mark.parametrize("count", [1, 7, 1_000, 10_000, 12_345])
def test_a_sweep_checks_each_connection_once_in_small_batches(count: int) -> None:
    sweep = HeartbeatSweep(20.0)
    connections = {str(number): None for number in range(count)}
    checked: list[str] = []
    seconds = 0.0
    while len(checked) < count:
        batch = sweep.next_batch(connections)
        assert 1 <= len(batch) <= MAX_BATCH
        checked += batch
        seconds += sweep.pause_seconds
    assert sorted(checked) == sorted(connections)
    assert seconds == pytest.approx(9.0)
    assert sweep.number == 1


async def check_positions(client: Client, room_of: Callable[[], Awaitable[None]]) -> None:
    """Check that each heartbeat of a busy and pausing room has the last received position."""
    last, heartbeats = (await client.receive())["id"], 0
    while heartbeats < 20:
        await room_of()
        for _ in range(6):  # one more than the room publishes: it pauses until the next heartbeat
            message = await client.receive(timeout_seconds=WAIT_SECONDS)
            if is_heartbeat(message):
                assert message["id"] == last
                heartbeats += 1
                break
            last = message["id"]


async def test_a_heartbeat_never_overtakes_a_message() -> None:
    app = hall_app(SOON)
    manager = app.ws_connection_manager
    async with serve(app, ws=PushProtocol) as served, served.connect("/hall") as client:

        async def publish() -> None:
            for _ in range(5):
                await manager.broadcast_to_room("hall", {"type": "posted", "payload": {}})

        await check_positions(client, publish)


@pytest.mark.redis
async def test_over_redis_a_heartbeat_has_the_position_delivered_by_the_node(
    redis_server: RedisServer,
) -> None:
    prefix = next(prefixes)
    apps = [
        hall_app(SOON, backend=backend_from_url(redis_server.url, prefix=prefix, timing=TIMING))
        for _ in range(2)
    ]
    async with (
        serve(apps[0], ws=PushProtocol),
        serve(apps[1], ws=PushProtocol) as served,
        served.connect("/hall") as client,
    ):

        async def publish() -> None:
            for _ in range(5):
                await apps[0].ws_connection_manager.broadcast_to_room(
                    "hall", {"type": "posted", "payload": {}}
                )

        await check_positions(client, publish)
