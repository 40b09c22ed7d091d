"""Rates of messages and numbers of connections belong to users and addresses, on every server."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import falcon.asgi
import pytest
from websockets.exceptions import InvalidStatus

from falcon_pachinko import (
    App,
    Limits,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.connection.rate_limit import REFUSALS_BEFORE_CLOSE
from falcon_pachinko.testing import Client, Closed, connect

from .support.servers import RECEIVING_SERVERS, Endpoint

WAIT_SECONDS = 5.0
BURST = 20
# A token takes longer than a test.
PER_SECOND = 0.001
SERVER_LIMITS = ServerLimits(connections_per_user=3, users_per_address=2.0)


class Room(WebSocketResource):
    """A room whose members are the users of the path; "anonymous" has no name."""

    limits = Limits(messages_per_second=PER_SECOND, message_burst=BURST)
    events: list[tuple[str, str | None]]

    def __init__(self, events: list[tuple[str, str | None]]) -> None:
        self.events = events

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        self.connection.user = None if name == "anonymous" else name
        if name == "refused":
            return False
        await self.join_room("room")
        await self.broadcast_to_room(
            "room", {"type": "came", "payload": {"user": self.connection.user}}
        )
        await ws.send_media({"type": "welcome", "payload": {}})
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.events.append(("say", self.connection.user))

    @handles_message("type", per_second=PER_SECOND, burst=2)
    async def type(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.events.append(("type", self.connection.user))

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.events.append(("left", self.connection.user))


class World:
    """A served application with one room."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str | None]] = []
        self.app: App = install(falcon.asgi.App(), server_limits=SERVER_LIMITS)
        self.app.add_websocket_route("/{name}", Room, self.events)
        self.manager = self.app.ws_connection_manager
        self.served: Endpoint
        self.stack = AsyncExitStack()

    async def join(self, name: str) -> Client:
        """Connect as a user, and wait for the welcome."""
        client = await self.stack.enter_async_context(connect(self.served.ws_url(f"/{name}")))
        await client.receive_until("welcome")
        return client

    async def wait_connections(self, count: int) -> None:
        """Wait until the server has so many connections."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.manager) != count:  # noqa: ASYNC110 (it sets no event)
                await asyncio.sleep(0.001)


@pytest.fixture(params=RECEIVING_SERVERS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A served application, on each server in turn."""
    world = World()
    async with RECEIVING_SERVERS[request.param](world.app) as world.served, world.stack:
        yield world


async def error_of(client: Client) -> str:
    """Wait for the next error; return its code."""
    error = (await client.receive_until("serverError"))[-1]
    return str(error["payload"]["code"])


async def test_reconnecting_does_not_refill_the_bucket_of_a_user(world: World) -> None:
    for expected in (BURST, 0):
        world.events.clear()
        async with connect(world.served.ws_url("/alice")) as alice:
            await alice.receive_until("welcome")
            for _ in range(BURST):
                await alice.send("say")
            await alice.send("say")
            assert await error_of(alice) == "tooManyMessages"
        await world.wait_connections(0)
        assert world.events.count(("say", "alice")) == expected


async def test_tabs_of_a_user_share_the_bucket_and_only_the_flooding_one_is_closed(
    world: World,
) -> None:
    tab, flood, bob = await world.join("alice"), await world.join("alice"), await world.join("bob")
    for _ in range(2 * BURST + 1):
        await flood.send("say")
    assert (await flood.wait_closed())[0] == 4029
    assert world.events.count(("say", "alice")) == BURST
    await tab.send("say")
    assert await error_of(tab) == "tooManyMessages"
    await bob.send("unknown")
    assert await error_of(bob) == "unknownMessage"
    assert not tab.socket.close_code
    for _ in range(REFUSALS_BEFORE_CLOSE - 1):
        await tab.send("say")
    assert (await tab.wait_closed())[0] == 4029
    assert world.events.count(("say", "alice")) == BURST


async def test_an_address_has_a_multiple_of_the_rate_of_a_user(world: World) -> None:
    for expected in (BURST, BURST, 0):
        world.events.clear()
        async with connect(world.served.ws_url("/anonymous")) as client:
            await client.receive_until("welcome")
            for _ in range(BURST + 1):
                await client.send("say")
            assert await error_of(client) == "tooManyMessages"
        await world.wait_connections(0)
        assert world.events.count(("say", None)) == expected


async def test_rate_of_a_type_counts_for_all_connections_of_a_user(world: World) -> None:
    first, second, bob = (
        await world.join("alice"),
        await world.join("alice"),
        await world.join("bob"),
    )
    await first.send("type")
    await second.send("type")
    await second.send("unknown")
    assert await error_of(second) == "unknownMessage"
    await first.send("unknown")
    assert await error_of(first) == "unknownMessage"
    for client in (first, second, first, second):
        await client.send("type")
        assert await error_of(client) == "tooManyMessages"
    await first.send("say")
    await bob.send("type")
    for client in (first, bob):
        await client.send("unknown")
        assert await error_of(client) == "unknownMessage"
    assert world.events == [
        ("type", "alice"),
        ("type", "alice"),
        ("say", "alice"),
        ("type", "bob"),
    ]


async def test_rate_of_a_type_counts_for_each_anonymous_connection(world: World) -> None:
    for client in (await world.join("anonymous"), await world.join("anonymous")):
        for expected in ("unknownMessage", "tooManyMessages"):
            await client.send("type")
            await client.send("type")
            await client.send("unknown")
            assert await error_of(client) == expected
            if expected == "tooManyMessages":
                assert [await error_of(client), await error_of(client)] == [
                    "tooManyMessages",
                    "unknownMessage",
                ]
    assert world.events == [("type", None)] * 4


async def test_one_connection_too_many_of_a_user_is_closed_without_a_trace(world: World) -> None:
    tabs = [await world.join("alice") for _ in range(3)]
    async with connect(world.served.ws_url("/alice")) as fourth:
        assert await fourth.wait_closed() == (4429, "too many connections")
        assert fourth.recent_messages == deque()
    await tabs[0].send("unknown")
    received = await tabs[0].receive_until("serverError")
    assert sum(message["type"] == "came" for message in received) == 3
    assert world.events == []
    assert len(world.manager) == 3
    await world.join("bob")
    await tabs[1].aclose()
    await world.wait_connections(3)
    await world.join("alice")
    assert world.events == [("left", "alice")]


async def test_concurrent_handshakes_of_a_user_do_not_exceed_the_bound(world: World) -> None:
    async def try_to_join() -> int | None:
        client = await world.stack.enter_async_context(connect(world.served.ws_url("/alice")))
        try:
            await client.receive_until("welcome")
        except Closed as closed:
            return closed.code
        return None

    codes = await asyncio.gather(*(try_to_join() for _ in range(10)))
    assert (codes.count(None), codes.count(4429)) == (3, 7)
    assert await world.manager.members("room") == ["alice"]


async def test_connections_without_a_user_are_not_counted_as_one_user(world: World) -> None:
    for _ in range(5):
        await world.join("anonymous")
    assert len(world.manager) == 5


async def test_refused_connection_frees_its_place(world: World) -> None:
    await world.join("alice")
    for _ in range(3):
        with pytest.raises(InvalidStatus, match="403"):
            await world.join("refused")
    assert world.manager._registry.users.connections.keys() == {"alice"}
