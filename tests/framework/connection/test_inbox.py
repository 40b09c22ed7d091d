"""Inbound messages: size, rate, and reading ahead of a busy handler."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import falcon.asgi
import pytest
from websockets.exceptions import ConnectionClosed

from falcon_pachinko import (
    App,
    Limits,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.testing import Client, connect

from ..support.servers import RECEIVING_SERVERS, SERVERS, Endpoint

WAIT_SECONDS = 5.0
# uvicorn closes a client without a pong after this time; reading ahead starts earlier.
PING_SECONDS = 0.7
# 30 MB through the slowest server on a loaded machine.
FLOOD_SECONDS = 30.0


class Desk(WebSocketResource):
    """A resource that records its messages, and handles them once the gate is open."""

    def __init__(self, record: list[Any], open_gate: asyncio.Event) -> None:
        self.record = record
        self.open_gate = open_gate

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        self.record.append(("gone", close_code))

    @handles_message("slow")
    async def slow(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.record.append("slow")
        await self.open_gate.wait()

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.record.append(payload["number"])
        if not ws.closed:
            await ws.send_media(payload["number"])

    @handles_binary
    async def take(self, ws: WebSocketLike, data: bytes) -> None:
        self.record.append(len(data))
        await ws.send_media(len(data))


class World:
    """One served desk and its clients."""

    def __init__(self, app: App, served: Endpoint, stack: AsyncExitStack) -> None:
        self.app = app
        self.served = served
        self.stack = stack
        self.record: list[Any] = []
        self.open_gate = asyncio.Event()

    async def connect(self, **limits: Any) -> Client:
        """Connect to a desk with these limits."""
        path = f"/desk/{len(limits)}"
        resource = type("LimitedDesk", (Desk,), {"limits": Limits(**limits)})
        self.app.add_websocket_route(path, resource, self.record, self.open_gate)
        client = connect(self.served.ws_url(path), compression=None)
        return await self.stack.enter_async_context(client)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Run the loop until the condition holds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 (the condition sets no event)
                await asyncio.sleep(0.001)


@pytest.fixture(params=RECEIVING_SERVERS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    app = install(falcon.asgi.App())
    async with RECEIVING_SERVERS[request.param](app) as served, AsyncExitStack() as stack:
        yield World(app, served, stack)


@pytest.mark.slow
async def test_client_above_the_rate_gets_an_error_and_recovers(world: World) -> None:
    client = await world.connect(messages_per_second=2.0, message_burst=5)
    for number in range(6):
        await client.send("say", {"number": number})
    answers = [await client.receive() for _ in range(6)]
    assert answers[:5] == [0, 1, 2, 3, 4]
    assert (answers[5]["type"], answers[5]["payload"]["code"]) == (
        "serverError",
        "tooManyMessages",
    )
    told = re.fullmatch(r"Too many messages: wait ([0-9.]+) s\.", answers[5]["payload"]["error"])
    assert told
    await asyncio.sleep(float(told[1]) + 0.1)  # the figure is rounded
    await client.send("say", {"number": 6})
    assert await client.receive() == 6
    assert world.record == [0, 1, 2, 3, 4, 6]


async def test_client_that_stays_above_the_rate_is_closed_with_4029(world: World) -> None:
    client = await world.connect(messages_per_second=0.01, message_burst=5)
    for number in range(11):
        await client.send("say", {"number": number})
    answers = [await client.receive() for _ in range(9)]
    assert answers[:5] == [0, 1, 2, 3, 4]
    assert {answer["payload"]["code"] for answer in answers[5:]} == {"tooManyMessages"}
    assert await client.wait_closed() == (4029, "too many messages")
    await world.wait_until(lambda: world.record[5:] == [("gone", 4029)])


async def test_rate_can_be_unlimited(world: World) -> None:
    client = await world.connect(messages_per_second=math.inf, message_burst=1)
    for number in range(300):
        await client.send("say", {"number": number})
    assert [await client.receive() for _ in range(300)] == list(range(300))


@pytest.mark.parametrize(
    ("fits", "too_large"),
    [(b"x" * 1000, b"x" * 1001), ("ö" * 500, "ö" * 500 + "x"), ("x" * 1000, "x" * 1001)],
    ids=["binary", "two-byte characters", "text"],
)
async def test_message_size_limit_is_exact(
    world: World, fits: str | bytes, too_large: str | bytes
) -> None:
    client = await world.connect(max_message_bytes=1000)
    await client.send_raw(fits)
    await client.receive()
    await client.send_raw(too_large)
    await client.send_raw(fits)
    assert await client.wait_closed() == (1009, "at most 1000 bytes")
    await world.wait_until(lambda: world.record[-1:] == [("gone", 1009)])


@pytest.mark.slow
@pytest.mark.parametrize("server", ["push", "push by parser", "uvicorn"])
async def test_busy_handler_with_pending_frames_keeps_the_connection(
    server: str,
) -> None:
    app = install(falcon.asgi.App())
    options = {"ws_ping_interval": PING_SECONDS, "ws_ping_timeout": PING_SECONDS}
    async with RECEIVING_SERVERS[server](app, **options) as served, AsyncExitStack() as stack:
        world = World(app, served, stack)
        client = await world.connect()
        await client.send("slow")
        for number in range(20):
            await client.send("say", {"number": number})
        await asyncio.sleep(6 * PING_SECONDS)
        world.open_gate.set()
        assert [await client.receive() for _ in range(20)] == list(range(20))


@pytest.mark.slow
async def test_back_pressure_causes_no_ping_timeout_on_the_push_protocol() -> None:
    app = install(falcon.asgi.App())
    options = {"ws_ping_interval": PING_SECONDS, "ws_ping_timeout": PING_SECONDS}
    async with SERVERS["push"](app, **options) as served, AsyncExitStack() as stack:
        world = World(app, served, stack)
        client = await world.connect(
            inbox_messages=10, max_message_bytes=30_000, messages_per_second=math.inf
        )
        await client.send("slow")
        sending = asyncio.create_task(flood(client))
        await asyncio.sleep(6 * PING_SECONDS)
        assert not sending.done(), "no back pressure on the client"
        (connection,) = app.ws_connection_manager
        assert connection._inbox.full
        world.open_gate.set()
        await asyncio.wait_for(sending, FLOOD_SECONDS)
        await world.wait_until(lambda: len(world.record) == 1001)
        assert not connection.closed


async def flood(client: Client) -> None:
    """Send more than the kernel buffers."""
    for _ in range(1000):
        await client.socket.send(b"x" * 30_000)


async def test_disconnect_during_a_handler_is_detected_and_pending_messages_are_handled(
    world: World,
) -> None:
    client = await world.connect()
    await client.send("slow")
    for number in range(3):
        await client.send("say", {"number": number})
    await world.wait_until(lambda: world.record == ["slow"])
    (connection,) = world.app.ws_connection_manager
    await client.close()
    await world.wait_until(lambda: connection.closed)
    assert world.record == ["slow"]
    world.open_gate.set()
    await world.wait_until(lambda: len(world.record) == 5)
    assert world.record[1:4] == [0, 1, 2]
    assert world.record[4][1] in (1000, 1006)  # hypercorn reports every end as 1006


@pytest.mark.slow
async def test_read_ahead_is_bounded(world: World) -> None:
    client = await world.connect(inbox_messages=10, messages_per_second=math.inf)
    await client.send("slow")
    sending = asyncio.create_task(flood(client))
    await world.wait_until(lambda: len(world.app.ws_connection_manager) == 1)
    (connection,) = world.app.ws_connection_manager
    await world.wait_until(lambda: connection._inbox.full)
    await asyncio.sleep(2 * PING_SECONDS)
    assert not sending.done()
    world.open_gate.set()
    await asyncio.wait_for(sending, FLOOD_SECONDS)
    await world.wait_until(lambda: world.record.count(30_000) == 1000)


async def test_server_side_close_wakes_the_read_ahead_task(world: World) -> None:
    client = await world.connect()
    await client.send("slow")
    await world.wait_until(lambda: world.record == ["slow"])
    await asyncio.sleep(PING_SECONDS)  # now a task reads ahead
    world.open_gate.set()
    await client.send("say", {"number": 1})
    assert await client.receive() == 1
    (connection,) = world.app.ws_connection_manager
    await connection.close(4001)
    with pytest.raises(ConnectionClosed):
        await client.receive()
    await world.wait_until(lambda: world.record[2:] == [("gone", 4001)])


async def test_close_behind_a_busy_handler_reaches_the_client(world: World) -> None:
    client = await world.connect()
    await client.send("slow")
    await world.wait_until(lambda: world.record == ["slow"])
    (connection,) = world.app.ws_connection_manager
    await client.send("say", {"number": 1})
    await world.wait_until(lambda: connection._inbox.size_bytes > 0)  # read ahead
    await connection.close(4001, "moved")
    assert await client.wait_closed() == (4001, "moved")
    world.open_gate.set()
    await world.wait_until(lambda: world.record[1:] == [("gone", 4001)])
