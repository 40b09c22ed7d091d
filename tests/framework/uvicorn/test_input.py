"""The input on uvicorn: floods of frames, fragments, and clients that do not read."""

import asyncio
import contextlib
import json
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    Limits,
    Reject,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.testing import Served, serve
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn.frames import SLICE_BYTES
from falcon_pachinko.uvicorn.input import BYTES_AFTER_CLOSE
from falcon_pachinko.uvicorn.protocol import PushSansIOProtocol

from ..support.servers import ParsingProtocol
from ..support.stranger import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Stranger,
    arriving,
    frame,
    stranger,
)

WAIT_SECONDS = 15.0
LIMITS = Limits(
    close_seconds=1.0,
    stall_seconds=2.0,
    frames_per_second=1.0,
    frame_burst=1_100,
    message_fragments=1_024,
    messages_per_second=100.0,
    message_burst=20,
    inbox_messages=10,
    outbox_bytes=200_000,
)


class Room(WebSocketResource):
    """A resource whose handlers can wait for an event."""

    limits = LIMITS
    handled: list[int]
    gate: asyncio.Event

    def __init__(self, handled: list[int], gate: asyncio.Event) -> None:
        self.handled = handled
        self.gate = gate

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any) -> bool:
        await self.join_room("room")
        if req.get_param_as_bool("closes"):
            raise Reject(4401, "sign in first")
        return True

    @handles_message("slow")
    async def slow(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        self.handled.append(payload["number"])
        await self.gate.wait()

    @handles_message("echo")
    async def echo(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media(payload)


class Fast(Room):
    limits = Limits(messages_per_second=math.inf, inbox_messages=10)


class World:
    """A served room."""

    def __init__(self, app: App, served: Served) -> None:
        self.app = app
        self.served = served
        self.handled: list[int] = []
        self.gate = asyncio.Event()
        app.add_websocket_route("/room", Room, self.handled, self.gate)
        app.add_websocket_route("/fast", Fast, self.handled, self.gate)

    async def wait_until(self, condition: Callable[[], object]) -> None:
        """Run the loop until the condition holds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 (the condition sets no event)
                await asyncio.sleep(0.001)

    async def wait_alone(self) -> None:
        """Wait until no connection is left."""
        await self.wait_until(lambda: not len(self.app.ws_connection_manager))

    def handshakes_left(self) -> float:
        """Return the number of handshakes that the address may make at once."""
        return self.app.ws_admission.handshakes.of("127.0.0.1", time.monotonic()).tokens

    def protocols(self) -> list[PushSansIOProtocol]:
        """Return uvicorn's protocols of all clients."""
        state = self.served.server.server_state.connections
        return [each for each in state if isinstance(each, PushSansIOProtocol)]

    async def wait_until_aborted(self) -> None:
        """Wait until uvicorn has no connection."""
        await self.wait_until(lambda: not self.served.server.server_state.connections)


BOUNDS = ServerLimits(handshakes_per_second=0.001)


@pytest.fixture(params=[PushProtocol, ParsingProtocol], ids=["accelerated", "by parser"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    asyncio.get_running_loop().set_debug(False)
    app = install(falcon.asgi.App(), server_limits=BOUNDS)
    async with serve(app, ws=request.param) as served:
        yield World(app, served)


def small_buffers(client: Stranger) -> None:
    """Let the kernel buffer little for a client that does not read."""
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


async def pour(client: Stranger, data: bytes, count: int) -> None:
    """Send data repeatedly until the server ends the connection."""
    try:
        for _ in range(count):
            client.writer.write(data)
            await client.writer.drain()
    except ConnectionError:
        pass


async def frames_of(client: Stranger) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the frames of the server until the connection ends."""
    try:
        while True:
            yield await client.receive()
    except (asyncio.IncompleteReadError, ConnectionError):
        return


async def last_frame(client: Stranger) -> tuple[int, bytes]:
    """Read to the end; return the last frame."""
    return [each async for each in frames_of(client)][-1]


FLOODS = {
    "pings": frame(PING, b""),
    "long pings": frame(PING, b"x" * 125),
    "pongs": frame(PONG, b"x"),
    "messages of two fragments": frame(TEXT, b"", fin=False) + frame(CONTINUATION, b""),
    "a ping in a message": frame(TEXT, b"{", fin=False)
    + frame(PING, b"")
    + frame(CONTINUATION, b"}"),
    "empty texts": frame(TEXT, b""),
    "empty binary messages": frame(BINARY, b""),
    "texts": frame(TEXT, b"{}"),
}


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_frames_is_closed_with_4029(
    world: World, data: bytes, reads: bool
) -> None:
    async with stranger(world.served) as client:
        pouring = asyncio.create_task(pour(client, data * 500, 200))
        if not reads:
            await world.wait_alone()
        code, reason = await last_frame(client)
        await pouring
    assert (code, reason[:2]) == (CLOSE, (4029).to_bytes(2, "big")), reason
    await world.wait_until_aborted()


@pytest.mark.parametrize(("fragments", "closes"), [(1_024, False), (1_025, True)])
async def test_the_number_of_fragments_is_bounded(
    world: World, fragments: int, closes: bool
) -> None:
    message = json.dumps({"type": "echo", "payload": {}}).encode()
    parts = [frame(CONTINUATION, b"", fin=False)] * (fragments - 2)
    async with stranger(world.served) as client:
        await client.send(frame(TEXT, message, fin=False) + b"".join(parts))
        await client.send(frame(CONTINUATION, b""))
        code, data = await client.receive()
    expected = (CLOSE, (1009).to_bytes(2, "big") + b"at most 1024 fragments")
    assert (code, data) == (expected if closes else (TEXT, b"{}"))


async def test_nothing_is_read_from_a_client_that_does_not_read(world: World) -> None:
    """Its pings are answered up to the transport's high-water mark, then they wait in its own buffers."""
    async with arriving(world.served, HANDSHAKE.replace(b"/room", b"/fast")) as client:
        await client.reader.readuntil(b"\r\n\r\n")
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        echo = frame(TEXT, json.dumps({"type": "echo", "payload": {"x": "y" * 4000}}).encode())
        pouring = asyncio.create_task(pour(client, echo, 6_000))
        (protocol,) = world.protocols()
        await world.wait_until(lambda: not protocol.transport.is_reading())
        size = protocol.transport.get_write_buffer_size()
        assert protocol.outbox is not None
        assert protocol.outbox.size_bytes <= 2 * Fast.limits.outbox_bytes
        assert len(protocol.unparsed) <= 1 << 20
        await asyncio.sleep(0.2)
        assert protocol.transport.get_write_buffer_size() == size
        assert not pouring.done()
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(WAIT_SECONDS):
            for _ in range(6_000):
                assert (await client.receive())[0] == TEXT
        await pouring


@pytest.mark.parametrize("ping_seconds", [20.0, 1.5])
async def test_a_client_that_reads_nothing_for_stall_seconds_is_closed(ping_seconds: float) -> None:
    """The pings of the server, which wait for the client as well, are no progress of the client."""
    asyncio.get_running_loop().set_debug(False)
    app = install(falcon.asgi.App())
    options: dict[str, Any] = {"ws_ping_interval": ping_seconds, "ws_ping_timeout": 20.0}
    async with serve(app, ws=PushProtocol, **options) as served:
        world = World(app, served)
        async with stranger(served) as client:
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            (protocol,) = world.protocols()
            while protocol.transport.is_reading():
                await app.ws_connection_manager.broadcast_to_room("room", {"x": "y" * 60_000})
                await asyncio.sleep(0.001)
            await world.wait_alone()
            await world.wait_until_aborted()


@pytest.mark.parametrize("path", [b"/room", b"/room?closes=1"])
async def test_a_closed_connection_is_aborted_although_data_is_buffered(
    world: World, path: bytes
) -> None:
    async with stranger(world.served, HANDSHAKE.replace(b"/room", path)) as client:
        small_buffers(client)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        pouring = asyncio.create_task(pour(client, frame(PING, b"x" * 125) * 500, 200))
        for connection in world.app.ws_connection_manager:
            await connection.close(4000)
        await world.wait_until_aborted()
        await pouring


async def test_after_a_close_little_is_read(world: World) -> None:
    """What the client sends after our close is dropped; its close frame ends the connection at once."""
    async with stranger(world.served, HANDSHAKE.replace(b"/room", b"/room?closes=1")) as client:
        assert await client.close_code() == 4401
        (protocol,) = world.protocols()
        await client.send(frame(TEXT, b"{}") * 100 + frame(CLOSE, (4401).to_bytes(2, "big")))
        assert await client.reader.read() == b""
        await world.wait_until_aborted()
        assert protocol.bytes_after_close < BYTES_AFTER_CLOSE
    async with stranger(world.served, HANDSHAKE.replace(b"/room", b"/room?closes=1")) as client:
        assert await client.close_code() == 4401
        (protocol,) = world.protocols()
        pouring = asyncio.create_task(pour(client, frame(BINARY, bytes(60_000)), 500))
        async with asyncio.timeout(WAIT_SECONDS):
            assert await client.reader.read() == b""
        assert world.protocols() == [protocol], "the client could not read the close frame"
        await world.wait_until_aborted()
        await pouring
        assert protocol.bytes_after_close < BYTES_AFTER_CLOSE + (1 << 20)


@pytest.mark.parametrize("data", [frame(TEXT, b""), frame(BINARY, b""), frame(PING, b"")])
async def test_frames_before_a_refusal_are_counted(world: World, data: bytes) -> None:
    """They are parsed within the bound, although nobody handles them, and cost the address."""
    refused = HANDSHAKE.replace(b"/room", b"/room?closes=1")
    async with arriving(world.served, refused + data * 40_000) as client:
        # Very many of them end the connection before it is accepted.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with asyncio.timeout(WAIT_SECONDS):
                await client.reader.read()
        await world.wait_until_aborted()
    await world.wait_until(lambda: world.handshakes_left() < BOUNDS.handshake_burst - 20)


async def test_frames_below_the_limit_cost_their_share_of_a_flood(world: World) -> None:
    before = world.handshakes_left()
    async with stranger(world.served) as client:
        await client.send(frame(PONG, b"") * 1_000)
        await client.send(frame(CLOSE, b""))
        assert await client.close_code() == 0
    await world.wait_alone()
    await world.wait_until(lambda: world.handshakes_left() < before - 80)


async def test_messages_of_one_segment_wait_for_a_busy_handler_in_order(world: World) -> None:
    """They stay unparsed, so that the inbox keeps its bound."""
    messages = [
        frame(TEXT, json.dumps({"type": "slow", "payload": {"number": number}}).encode())
        for number in range(2_000)
    ]
    async with stranger(world.served, HANDSHAKE.replace(b"/room", b"/fast")) as client:
        await client.send(b"".join(messages))
        await world.wait_until(lambda: world.handled)
        (protocol,) = world.protocols()
        await world.wait_until(lambda: not protocol.transport.is_reading())
        assert protocol.inbox is not None
        assert len(protocol.inbox.events) <= Fast.limits.inbox_messages + SLICE_BYTES // 40
        world.gate.set()
        await world.wait_until(lambda: len(world.handled) == len(messages))
        assert world.handled == list(range(len(messages)))


async def test_a_ping_before_the_handshake_response_gets_no_pong(world: World) -> None:
    async with arriving(world.served, HANDSHAKE + frame(PING, b"early")) as client:
        async with asyncio.timeout(WAIT_SECONDS):
            head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        await client.send(frame(PING, b"late"))
        assert await client.receive() == (PONG, b"late")


def test_a_healthy_client_stays_below_the_rate_of_frames() -> None:
    """A browser sends one pong per ping of the server, every 20 s, and no other control frames."""
    assert Limits().frames_per_second >= 100
    assert Limits().frame_burst >= Limits().message_fragments
