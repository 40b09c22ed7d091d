"""The order of a drain, what its clients are told, and how long their users remain present."""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, WebSocketLike, WebSocketResource, install
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.rooms import drain as module
from falcon_pachinko.rooms.drain import drain_order
from falcon_pachinko.rooms.metrics import AppMetrics
from falcon_pachinko.server.drain import DrainPolicy
from falcon_pachinko.testing import Client, Running, run

from ..support.backends import TIMING, wait_until
from ..support.chat_cluster import ChatCluster

SERVICE_RESTART = 1012
SLOWLY = DrainPolicy(seconds=1_000.0)


# The order.


def gaps_of(order: list[str], rooms: dict[str, list[str]], room: str) -> list[int]:
    """Return the distances between the members of a room that follow each other."""
    places = [place for place, each in enumerate(order) if room in rooms[each]]
    return [later - sooner for sooner, later in itertools.pairwise(places)]


def test_members_of_one_room_are_far_from_each_other() -> None:
    rooms = {f"c{number}": [f"room {number // 4}"] for number in range(400)}
    order = drain_order(rooms)
    assert sorted(order) == sorted(rooms)
    assert order != list(rooms)
    for number in range(100):
        gaps = gaps_of(order, rooms, f"room {number}")
        assert len(gaps) == 3
        assert min(gaps) > 50, "100 apart if they were all alone"


def test_a_small_room_within_a_large_one_has_precedence() -> None:
    rooms = {f"c{number}": ["lobby", f"pair {number // 2}"] for number in range(400)}
    order = drain_order(rooms)
    for number in range(200):
        [gap] = gaps_of(order, rooms, f"pair {number}")
        assert gap > 100


def test_rooms_that_share_members_are_spread_as_well() -> None:
    rooms = {f"c{number}": [f"a{number // 2}", f"b{(number + 1) // 2}"] for number in range(100)}
    order = drain_order(rooms)
    distances = [gaps_of(order, rooms, f"a{number}")[0] for number in range(50)]
    assert min(distances) > 20


def test_connections_without_a_room_or_alone_in_one_have_a_place() -> None:
    rooms: dict[str, list[str]] = {"a": [], "b": ["alone"], "c": []}
    assert sorted(drain_order(rooms)) == ["a", "b", "c"]
    assert drain_order({}) == []


def test_the_order_of_ten_thousand_connections_takes_no_time() -> None:
    numbers = random.Random(1)
    rooms = {
        f"c{number}": ["lobby", *(f"r{numbers.randrange(3_000)}" for _ in range(3))]
        for number in range(10_000)
    }
    started = time.process_time()
    assert len(drain_order(rooms)) == 10_000
    assert time.process_time() - started < 1.0


# On one process in memory, and on two nodes over Redis.


async def first_closed(clients: list[Client]) -> tuple[Client, str]:
    """Wait for the first client that is closed; return the other one of two, and the reason."""
    waits = [asyncio.create_task(client.wait_closed()) for client in clients]
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()
    await asyncio.wait(waits)
    code, reason = done.pop().result()
    assert code == SERVICE_RESTART
    [other] = [client for client, each in zip(clients, waits, strict=True) if each in pending]
    return other, reason


@pytest.mark.redis
async def test_a_user_has_left_only_after_the_wait_and_the_grace_period(
    cluster: ChatCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", (1.0, 1.0))
    clients = [await cluster.connect(0, f"/chat/user{number}") for number in range(2)]
    manager = cluster.manager(0)
    drain = manager._drain
    drain.plan(SLOWLY)
    started = time.monotonic()
    assert drain.advance(0.0) is True
    other, reason = await first_closed(clients)
    assert reason == "retry=1.0"
    while (text := str(await other.receive())).endswith("joined"):
        pass
    assert text.endswith("left")
    assert time.monotonic() - started >= 1.0 + TIMING.grace_seconds
    assert len(await manager.members("lobby")) == 1


# With one process, the observer may be the first that is closed.
@pytest.mark.redis
@pytest.mark.parametrize("cluster", ["redis"], indirect=True)
async def test_a_user_that_returns_in_time_is_not_announced(
    cluster: ChatCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", (1.0, 1.0))
    clients = [await cluster.connect(0, f"/chat/user{number}") for number in range(2)]
    observer = await cluster.connect(1, "/chat/observer")
    drain = cluster.manager(0)._drain
    drain.plan(SLOWLY)
    drain.advance(0.0)
    other, _ = await first_closed(clients)
    gone = f"user{1 - clients.index(other)}"
    await asyncio.sleep(1.0)  # five grace periods
    await cluster.connect(1, f"/chat/{gone}")
    await other.send("send", {})
    while isinstance(message := await observer.receive(), str):
        assert not message.endswith("left")


# On one process.


class Room(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = req.get_param("user", required=True)
        await self.join_room(name, join_message={"type": "in"}, leave_message={"type": "out"})
        return True


@pytest.fixture
def app() -> App:
    backend = MemoryBackend(Timing(grace_seconds=5.0, expiry_seconds=30.0))
    app = install(falcon.asgi.App(), backend=backend)
    app.add_websocket_route("/rooms/{name}", Room)
    app.add_rooms_route("/ws", "/rooms/{name}")
    return app


async def test_a_connection_in_several_rooms_counts_once(app: App) -> None:
    manager = app.ws_connection_manager
    async with run(app) as running, running.connect("/ws?user=ada") as ada:
        for room in ("a", "b", "c"):
            await ada.join(room)
        async with running.connect("/rooms/a?user=bob"):
            manager._drain.plan(SLOWLY)
            assert len(manager._drain.planned) == 2
            presences = [
                presence
                for channel in manager._registry.channels.values()
                for presence in manager._registry.rooms_of(channel).values()
            ]
            manager._drain.close_rest(0.0)
            code, reason = await ada.wait_closed()
            assert code == SERVICE_RESTART
            waits = {f"retry={presence.wait_seconds:.1f}" for presence in presences}
            assert (len(presences), waits) == (3, {reason})
        assert [await manager.members(room) for room in "abc"] == [["ada", "bob"], ["ada"], ["ada"]]


@asynccontextmanager
async def crowd(app: App, count: int) -> AsyncIterator[tuple[Running, list[Client]]]:
    """Run the application with clients in one room."""
    async with run(app) as running, AsyncExitStack() as stack:
        connecting = (running.connect(f"/rooms/a?user=user{number}") for number in range(count))
        clients = [await stack.enter_async_context(each) for each in connecting]
        await wait_until(lambda: len(app.ws_connection_manager) == count)
        yield running, clients


async def test_connections_are_closed_when_their_time_comes(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    manager = app.ws_connection_manager
    async with crowd(app, 10):
        connections, drain = tuple(manager), manager._drain
        drain.plan(DrainPolicy(seconds=10.0, connections_per_second=1.0))
        for elapsed, left in ((0.0, 9), (0.9, 9), (1.0, 8), (4.5, 5), (8.9, 1)):
            assert drain.advance(elapsed) is True
            await asyncio.sleep(0)
            assert sum(not each.closed for each in connections) == left
        assert drain.advance(9.0) is False
    assert "draining: 10 connections within 10 s" in caplog.text
    assert "APP_DRAIN_CONNECTIONS_PER_SECOND" not in caplog.text


async def test_connections_are_closed_where_they_are_counted(app: App) -> None:
    AppMetrics(app, "1")
    async with crowd(app, 2):
        connections, drain = tuple(app.ws_connection_manager), app.ws_connection_manager._drain
        drain.plan(DrainPolicy(seconds=2.0))
        assert drain.advance(2.0) is False
        await asyncio.sleep(0)
        assert all(each.closed for each in connections)


async def test_a_rate_above_what_another_node_takes_is_a_warning(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with crowd(app, 10):
        app.ws_connection_manager._drain.plan(DrainPolicy(seconds=2.0, connections_per_second=4.0))
    assert (
        "draining 10 connections in 2 s is 5 a second, above the 4 that another node takes"
        " (APP_DRAIN_CONNECTIONS_PER_SECOND): 3 s would be enough (APP_DRAIN_SECONDS)"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("seconds", "shortest", "longest"), [(10.0, 8.5, 9.0 + 2.5), (1_000.0, 20.0, 30.0 - 5.0)]
)
async def test_the_rest_returns_when_planned_but_before_its_users_expire(
    app: App, seconds: float, shortest: float, longest: float
) -> None:
    async with crowd(app, 20) as (running, clients):
        drain = app.ws_connection_manager._drain
        drain.plan(DrainPolicy(seconds=seconds))
        async with running.connect("/rooms/a?user=late") as late:
            await wait_until(lambda: len(app.ws_connection_manager) == 21)
            drain.close_rest(1.0)
            ends = [await client.wait_closed() for client in (*clients, late)]
    assert {code for code, _ in ends} == {SERVICE_RESTART}
    waits = [float(reason.removeprefix("retry=")) for _, reason in ends]
    assert shortest <= max(waits) <= longest
    assert waits[-1] <= 2.5, "a connection that was accepted since has no plan to wait for"


async def test_the_process_is_not_draining_after_a_new_start(app: App) -> None:
    manager = app.ws_connection_manager
    async with run(app):
        assert not manager.draining
        manager._drain.begin()
        assert manager.draining
    async with run(app):
        assert not manager.draining
