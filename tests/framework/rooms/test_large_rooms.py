"""A room with 20,000 users: the cost of a join and of a leave, and what the members learn of them.

The cost is counted in calls of functions, C functions included, and in allocated bytes, which also shows a
copy of the members in one call. The clock is virtual, so batches are published when a test says so.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    History,
    Message,
    PresenceBatch,
    RouteConfig,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    install,
)
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.timing import Timing

from ..support.virtual_transport import PortableClient, SteppedLoop

pytestmark = pytest.mark.slow

USERS = 20_000
BATCH = PresenceBatch(above=200, seconds=0.25)
# A batch is published after so many joins or leaves.
USERS_PER_BATCH = 1_000
# Of so many consecutive joins the cheapest one counts: a growing dict costs extra now and then.
SAMPLES = 5
# At these numbers of users the cost is measured; the first one is the reference.
SIZES = (300, 2_500, USERS - 100)
# A binary search takes a few steps more in a larger room.
MAY_GROW_CALLS = 40
MAY_GROW_BYTES = 4_096


class ServerUserJoined(Message, frozen=True):
    user: str


class ServerUserLeft(Message, frozen=True):
    user: str


class ServerRoomState(Message, frozen=True):
    users: list[str]
    count: int


class Room(WebSocketResource):
    """Like the chat of a project."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = name
        is_new = await self.join_room(
            "room",
            join_message=ServerUserJoined(user=name),
            leave_message=ServerUserLeft(user=name),
        )
        page = await self.manager.members("room", limit=BATCH.above)
        await ws.send_media(ServerRoomState(users=[*page, name], count=page.total + is_new))
        return True


class Cost(NamedTuple):
    """The cost of an action."""

    calls: int
    bytes: int


class Site:
    """An application in this process with one room."""

    def __init__(self) -> None:
        self.loop = SteppedLoop()
        self.app: App = install(
            falcon.asgi.App(),
            backend=MemoryBackend(Timing(grace_seconds=0)),
            server_limits=ServerLimits(connections=30_000),
        )
        config = RouteConfig(history=History(messages=10), presence_batch=BATCH)
        self.app.add_websocket_route("/{name}", Room, route_config=config)
        self.clients: list[PortableClient] = []
        self.names = (f"user{number}" for number in itertools.count())

    async def join(self) -> None:
        client = PortableClient(self.app, f"/{next(self.names)}", lambda: None)
        self.clients.append(client)
        client.connect()
        await self.loop.run_until_idle()

    async def leave(self) -> None:
        """Disconnect the user that has been there for the longest time."""
        client = self.clients.pop(0)
        client.vanish()
        await self.loop.run_until_idle()
        assert client.task.done()

    async def measure(self, action: Callable[[], Any]) -> Cost:
        """Measure an action several times, and return its lowest cost."""
        calls = 0

        def on_event(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        costs = []
        for _ in range(SAMPLES):
            calls = 0
            sys.setprofile(on_event)
            try:
                await action()
            finally:
                sys.setprofile(None)
            called = calls
            tracemalloc.start()
            try:
                await action()
                costs.append(Cost(called, tracemalloc.get_traced_memory()[1]))
            finally:
                tracemalloc.stop()
        return Cost(min(cost.calls for cost in costs), min(cost.bytes for cost in costs))

    async def run_to(self, size: int, action: Callable[[], Any]) -> None:
        """Repeat a join or a leave up to a number of users, with a batch now and then."""
        while len(self.clients) != size:
            await action()
            if len(self.clients) % USERS_PER_BATCH == 0:
                await asyncio.sleep(BATCH.seconds)

    async def aclose(self) -> None:
        """End all connections."""
        for client in self.clients:
            client.vanish()
        await self.loop.run_until_idle()
        await self.app.ws_connection_manager.backend.stop()


def check_equal(costs: list[Cost]) -> None:
    """Check that no cost is higher than the one in the smallest room."""
    reference = costs[0]
    for cost in costs[1:]:
        assert cost.calls <= reference.calls + MAY_GROW_CALLS, costs
        assert cost.bytes <= reference.bytes + MAY_GROW_BYTES, costs


def payloads(client: PortableClient, message_type: str) -> list[Any]:
    """Return the payloads of the messages of a type that a client has received."""
    messages = [json.loads(text) for text in client.received]
    return [each["payload"] for each in messages if each["type"] == message_type]


def names_in(users: list[Any]) -> set[str]:
    """Return the names in payloads of join and leave messages."""
    return {user["user"] for user in users}


def known_after(client: PortableClient) -> tuple[set[str], int]:
    """Return the names and the number that a client of the protocol knows at the end."""
    [state] = payloads(client, "serverRoomState")
    names, count = set(state["users"]), state["count"]
    for text in client.received:
        message = json.loads(text)
        payload = message["payload"]
        if message["type"] == "serverUserJoined":
            names.add(payload["user"])
            count = len(names)
        elif message["type"] == "serverUserLeft":
            names.discard(payload["user"])
            count = len(names)
        elif message["type"] == "serverPresenceChanged":
            names = (names - names_in(payload["left"])) | names_in(payload["joined"])
            names = names_in(payload["users"]) if "users" in payload else names
            count = payload["count"]
    return names, count


@pytest.mark.timeout(300)
def test_a_join_and_a_leave_cost_the_same_in_a_room_of_any_size() -> None:
    site = Site()

    async def run() -> tuple[list[Cost], list[Cost]]:
        joins, leaves = [], []
        for size in SIZES:
            await site.run_to(size, site.join)
            joins.append(await site.measure(site.join))
        await site.run_to(USERS, site.join)
        assert await site.app.ws_connection_manager.occupancy("room") == USERS
        for size in reversed(SIZES):
            await site.run_to(size, site.leave)
            leaves.append(await site.measure(site.leave))
        await site.aclose()
        return joins, leaves[::-1]

    joins, leaves = site.loop.run_until_complete(run())
    site.loop.close()
    assert site.loop.failures == []
    check_equal(joins)
    check_equal(leaves)


def test_every_client_knows_the_number_of_users_whatever_happens_around_the_bound() -> None:
    site = Site()

    async def run() -> None:
        manager = site.app.ws_connection_manager
        for target in (190, 199, 205, 195, 201, 200, 201, 199, 300, 150, 202):
            action = site.join if target > len(site.clients) else site.leave
            while len(site.clients) != target:
                await action()
                if len(site.clients) % 7 == 0:
                    await asyncio.sleep(BATCH.seconds)
            await asyncio.sleep(BATCH.seconds)
            page = await manager.members("room")
            assert page.total == target
            for client in site.clients[:: len(site.clients) - 1]:
                names, count = known_after(client)
                assert count == target
                assert names <= set(page) or target > BATCH.above
                assert len(names) == target or target > BATCH.above
        assert len(payloads(site.clients[0], "serverPresenceChanged")) > 1
        await site.aclose()

    site.loop.run_until_complete(run())
    site.loop.close()
    assert site.loop.failures == []


def test_messages_outside_of_presence_are_neither_batched_nor_changed() -> None:
    site = Site()

    async def run() -> None:
        manager = site.app.ws_connection_manager
        await site.run_to(BATCH.above + 5, site.join)
        await asyncio.sleep(BATCH.seconds)
        client = site.clients[0]
        client.received.clear()
        joined = {"type": "serverUserJoined", "payload": {"user": "a user of the dict"}}
        for _ in range(3):
            await manager.broadcast_to_room("room", joined, ephemeral=True)
        assert [json.loads(text) for text in client.received] == [joined] * 3
        await site.aclose()

    site.loop.run_until_complete(run())
    site.loop.close()
    assert site.loop.failures == []
