"""Invalid input gets a defined answer, without internals and without effect on other clients."""

import asyncio
import itertools
import json
import logging
import math
import random
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import falcon.asgi
import msgspec
import pytest
import pytest_asyncio
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from falcon_pachinko import (
    App,
    Limits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.testing import Client, Served, connect, serve
from falcon_pachinko.uvicorn import PushProtocol

from .support.servers import ParsingProtocol
from .support.stranger import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    TEXT,
    Stranger,
    arriving,
    deflate,
    frame,
    offering,
    stranger,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT_SECONDS = 5.0
MAX_MESSAGE_BYTES = 300_000
PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1002, 1007, 1009
WAYS = {"push": PushProtocol, "push by parser": ParsingProtocol, "uvicorn": "websockets-sansio"}


class Post(msgspec.Struct):
    text: str
    to: list[int] = []


class Room(WebSocketResource):
    """A resource that answers valid messages; a marker is broadcast to the others."""

    limits = Limits(
        messages_per_second=math.inf, max_message_bytes=MAX_MESSAGE_BYTES, outbox_messages=10_000
    )

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        await self.join_room("room")
        return True

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: Post) -> None:
        await ws.send_media({"type": "posted", "payload": payload})

    @handles_message("any")
    async def any(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media({"type": "posted", "payload": payload})

    @handles_message("mark")
    async def mark(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("room", {"type": "marked"}, exclude_self=True)


class Doorkeeper(Room):
    """A resource with an ``on_connect`` that waits for an event."""

    def __init__(self, asked: asyncio.Event, open_door: asyncio.Event) -> None:
        self.asked = asked
        self.open_door = open_door

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        self.asked.set()
        await self.open_door.wait()
        return await super().on_connect(req, ws)


class World:
    """A served room with one regular client in it."""

    def __init__(self, way: str, app: App, served: Served, bystander: Client) -> None:
        self.way = way
        self.app = app
        self.served = served
        self.bystander = bystander

    async def check_bystander(self) -> None:
        """Check that the bystander receives a new client's message, and nothing before it."""
        async with connect(self.served.ws_url("/room")) as speaker:
            await speaker.send("mark")
            assert await self.bystander.receive() == {"type": "marked"}

    async def wait_alone(self) -> None:
        """Wait until the bystander is the only connection."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.app.ws_connection_manager) > 1:  # noqa: ASYNC110 (the manager sets no event)
                await asyncio.sleep(0.001)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=WAYS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """One served room for all tests, so that damage by one test shows in the next ones."""
    # PERF: asyncio's debug mode makes thousands of messages five times as slow.
    asyncio.get_running_loop().set_debug(False)
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", Room)
    # NOTE: with its own log_config uvicorn's records do not reach caplog.
    served_by = serve(app, ws=WAYS[request.param], ws_max_size=MAX_MESSAGE_BYTES, log_config=None)
    async with served_by as served, connect(served.ws_url("/room")) as bystander:
        yield World(request.param, app, served, bystander)


@pytest_asyncio.fixture(loop_scope="module")
async def world(house: World, caplog: pytest.LogCaptureFixture) -> AsyncIterator[World]:
    yield house
    await house.check_bystander()
    await house.wait_alone()
    # NOTE: during teardown caplog.records is another list.
    assert take_tracebacks(caplog.get_records("call")) == []


def take_tracebacks(records: list[logging.LogRecord]) -> list[str]:
    """Return the messages logged with a traceback, and clear the list."""
    shown = [record.getMessage() for record in records if record.exc_info]
    records.clear()
    return [message for message in shown if not uvicorns_own(message)]


def uvicorns_own(message: str) -> bool:
    """Return whether a traceback is uvicorn's own.

    uvicorn 0.54 without our protocol logs one for text that is not UTF-8, and for invalid frames
    before the handshake response.
    """
    return message == "Invalid UTF-8 sequence received from client." or (
        "data_received() call failed" in message
        and f"<{WebSocketsSansIOProtocol.__module__}." in message
    )


GOOD = {"type": "post", "payload": {"text": "hello", "to": [1]}}


def strange_messages(seed: int) -> Iterator[str]:
    """Yield random texts, and mutations and prefixes of a valid message."""
    dice = random.Random(seed)
    good = json.dumps(GOOD)
    alphabet = '{}[]",:0123456789.eE+-\\u tfnaö\U0001f600\x00\x7f'
    for _ in range(700):
        yield "".join(dice.choices(alphabet, k=dice.randrange(0, 60)))
        text = list(good)
        for _ in range(dice.randrange(1, 4)):
            text[dice.randrange(len(text))] = dice.choice(alphabet)
        yield "".join(text)
        yield good[: dice.randrange(len(good))]


@pytest.mark.parametrize("seed", [1, 2])
async def test_malformed_message_is_answered_once_and_the_connection_stays_open(
    world: World, seed: int
) -> None:
    messages = list(strange_messages(seed))
    async with stranger(world.served) as client:
        for message in messages:
            await client.send(frame(TEXT, message.encode()))
            answer = await client.answer()
            if answer["type"] != "posted":
                assert answer["type"] == "serverError", message
                assert answer["payload"]["code"] in ("unknownMessage", "invalidPayload"), message
                assert "Traceback" not in answer["payload"]["error"], message


DEEP = 100_000


@pytest.mark.parametrize(
    "message",
    [
        "",
        "[" * DEEP,
        '{"a":' * 50_000,
        '{"type":"any","payload":' + '{"a":' * 40_000,
        '{"type":"any","payload":{"a":' + "[" * DEEP + "]" * DEEP + "}}",
        '{"type":"post","payload":{"text":' + "9" * DEEP + "}}",
        '{"type":"any","payload":{"number":' + "9" * DEEP + "}}",
        '{"type":"any","payload":{"number":1e999}}',
        '{"type":"any","payload":{"number":-0.0e-999}}',
        '{"type":"any","payload":{"number":NaN}}',
        '{"type":"any","payload":{"number":Infinity}}',
        '{"type":"post","payload":{"text":5}}',
        '{"type":"post","payload":{"text":null}}',
        '{"type":"post","payload":{"text":"x","to":[1,"2"]}}',
        '{"type":"post","payload":[]}',
        '{"type":"post","payload":null}',
        '{"type":"post"}',
        '{"type":["post"]}',
        '{"type":null}',
        '{"type":5,"payload":{}}',
        '{"type":"post","type":"any","payload":{},"payload":{"text":"x"}}',
        '{"type":"post","payload":{"text":"x","text":"y"}}',
        '{"type":"post","payload":{"text":"\\ud800"}}',
        '{"type":"any","payload":{"text":"\\udfff\\ud800"}}',
        '{"type":"any","payload":{"\\ud800":1}}',
        '{"type":"\\ud800"}',
        '{"type":"on_disconnect"}',
        '{"type":"__class__"}',
        '{"type":""}',
        '{"type":"post","payload":{"text":"' + "ö" * 100_000 + '"}}',
        "null",
        "true",
        '"post"',
        '\ufeff{"type":"post","payload":{"text":"x"}}',
        '{"type":"post","payload":{"text":"x"}} trailing',
    ],
    ids=range(35),
)
async def test_extreme_message_is_answered_once_and_the_connection_stays_open(
    world: World, message: str
) -> None:
    async with stranger(world.served) as client:
        await client.send(frame(TEXT, message.encode()))
        answer = await client.answer()
        assert answer["type"] in ("serverError", "posted")
        await client.send(frame(TEXT, json.dumps(GOOD).encode()))
        assert (await client.answer())["type"] == "posted"


async def test_binary_messages_without_a_handler_are_answered(world: World) -> None:
    dice = random.Random(3)
    async with stranger(world.served) as client:
        for _ in range(500):
            await client.send(frame(BINARY, dice.randbytes(dice.randrange(300))))
            assert (await client.answer())["payload"]["code"] == "unknownMessage"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), INVALID_DATA),
        (frame(TEXT, b"\xed\xa0\x80"), INVALID_DATA),  # half a surrogate pair
        (frame(TEXT, b"\xc3", fin=False) + frame(0, b"("), INVALID_DATA),
        (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), INVALID_DATA),
        *[(frame(opcode, b""), PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        *[(frame(TEXT, b"x", rsv=rsv), PROTOCOL_ERROR) for rsv in range(1, 8)],
        (frame(TEXT, b"x", masked=False), PROTOCOL_ERROR),
        (frame(PING, b"x", fin=False), PROTOCOL_ERROR),
        (frame(CLOSE, b"", fin=False), PROTOCOL_ERROR),
        (frame(PING, b"x" * 126), PROTOCOL_ERROR),
        (frame(0, b"continues nothing"), PROTOCOL_ERROR),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), PROTOCOL_ERROR),
        (frame(CLOSE, b"x"), PROTOCOL_ERROR),
        *[
            (frame(CLOSE, struct.pack("!H", number)), PROTOCOL_ERROR)
            for number in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535)
        ],
        (b"\x81\xff" + struct.pack("!Q", 2**40) + bytes(4), TOO_BIG),
        (b"\x81\xff" + struct.pack("!Q", 2**63 - 1) + bytes(4), TOO_BIG),
        (frame(TEXT, b"x" * (MAX_MESSAGE_BYTES + 1)), TOO_BIG),
        (
            frame(BINARY, b"x" * MAX_MESSAGE_BYTES, fin=False) + frame(0, b"x"),
            TOO_BIG,
        ),
    ],
    ids=range(41),
)
async def test_protocol_violation_closes_with_its_code(
    world: World, data: bytes, code: int
) -> None:
    async with stranger(world.served) as client:
        await client.send(frame(TEXT, json.dumps(GOOD).encode()))
        assert (await client.answer())["type"] == "posted"
        await client.send(data)
        assert await client.close_code() == code


COMPRESSED = offering("permessage-deflate")
RSV1 = 4


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff" * 20, rsv=RSV1), PROTOCOL_ERROR),
        (frame(TEXT, deflate(b"x") + b"\x03\x00", rsv=RSV1), PROTOCOL_ERROR),
        (frame(PING, b"x", rsv=RSV1), PROTOCOL_ERROR),
        (
            frame(TEXT, deflate(b"x"), rsv=RSV1, fin=False) + frame(0, b"x", rsv=RSV1),
            PROTOCOL_ERROR,
        ),
        (frame(TEXT, deflate(b"\xff"), rsv=RSV1), INVALID_DATA),
        (frame(TEXT, deflate(b"x" * 10_000_000), rsv=RSV1), TOO_BIG),
    ],
    ids=["nonsense", "an end", "a ping", "a continuation", "no UTF-8", "a bomb"],
)
async def test_invalid_compression_closes_with_its_code(
    world: World, data: bytes, code: int
) -> None:
    async with stranger(world.served, COMPRESSED) as client:
        await client.send(data)
        assert await client.close_code() == code


@pytest.mark.parametrize(
    "data",
    [
        b"\x81",
        frame(TEXT, b"hello")[:8],
        frame(TEXT, b"hello", fin=False),
        frame(PING, b"hello")[:3],
        frame(CLOSE, struct.pack("!H", 1000))[:7],
        b"\x81\xfe\x01",
    ],
    ids=range(6),
)
@pytest.mark.parametrize("resets", [False, True], ids=["ends", "resets"])
async def test_disconnect_inside_a_frame_ends_the_connection(
    world: World, data: bytes, resets: bool
) -> None:
    async with stranger(world.served) as client:
        await client.send(data)
        if resets:
            client.reset()
    await world.wait_alone()


@asynccontextmanager
async def at_the_door(world: World) -> AsyncIterator[tuple[Stranger, asyncio.Event]]:
    """Connect a client, and delay its handshake response until the event is set."""
    asked, open_door = asyncio.Event(), asyncio.Event()
    path = f"/door/{next(DOORS)}"
    world.app.add_websocket_route(path, Doorkeeper, asked, open_door)
    async with arriving(world.served, HANDSHAKE.replace(b"/room", path.encode())) as client:
        async with asyncio.timeout(WAIT_SECONDS):
            await asked.wait()
        yield client, open_door


DOORS = itertools.count()

BEFORE_THE_ANSWER = {
    "an unknown opcode": frame(3, b""),
    "no mask": frame(TEXT, b"x", masked=False),
    "no UTF-8": frame(TEXT, b"\xff"),
    "too big": b"\x81\xff" + struct.pack("!Q", 2**40) + bytes(4),
    "a good one and nonsense": frame(TEXT, json.dumps(GOOD).encode()) + b"\xff" * 9,
}


@pytest.mark.parametrize("data", BEFORE_THE_ANSWER.values(), ids=BEFORE_THE_ANSWER)
async def test_invalid_frame_before_the_handshake_response_is_not_accepted(
    world: World,
    data: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with at_the_door(world) as (client, open_door):
        await client.send(data)
        async with asyncio.timeout(WAIT_SECONDS):
            answered = await client.reader.read()
        open_door.set()
    assert b"HTTP/1.1 101" not in answered
    assert b"Traceback" not in answered
    assert take_tracebacks(caplog.records) == []


async def test_close_before_the_handshake_response_is_not_accepted(world: World) -> None:
    async with at_the_door(world) as (client, open_door):
        await client.send(frame(CLOSE, struct.pack("!H", 1000)))
        async with asyncio.timeout(WAIT_SECONDS):
            assert b"HTTP/1.1 101" not in await client.reader.read()
        open_door.set()


async def test_message_before_the_handshake_response_is_handled_after_it(
    world: World,
) -> None:
    async with at_the_door(world) as (client, open_door):
        await client.send(frame(TEXT, json.dumps(GOOD).encode()))
        open_door.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await client.reader.readuntil(b"\r\n\r\n")
        assert (await client.answer())["type"] == "posted"


def strange_handshakes(seed: int) -> Iterator[bytes]:
    """Yield handshakes with one to three random changes."""
    dice = random.Random(seed)
    for _ in range(250):
        changed = bytearray(COMPRESSED)
        for _ in range(dice.randrange(1, 4)):
            place = dice.randrange(len(changed))
            size = dice.choice([0, 1, 1, 10])
            changed[place : place + size] = dice.randbytes(dice.randrange(4))
        yield bytes(changed)


@pytest.mark.parametrize("seed", [6, 7])
async def test_mutated_handshake_gets_an_http_response(world: World, seed: int) -> None:
    for handshake in strange_handshakes(seed):
        async with arriving(world.served, handshake + b"\r\n\r\n") as client:
            async with asyncio.timeout(WAIT_SECONDS):
                status = await client.reader.readline()
            assert status.split()[1:2] in ([b"101"], [b"400"], [b"403"], [b"404"], [b"405"]), (
                handshake,
                status,
            )


@pytest.mark.parametrize("seed", [4, 5])
async def test_random_bytes_cause_no_traceback(world: World, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(100):
        async with stranger(world.served) as client:
            data = dice.randbytes(dice.randrange(1, 300))
            await client.send(data)
            client.writer.write_eof()
            async with asyncio.timeout(WAIT_SECONDS):
                answered = await client.reader.read()
            assert b"Traceback" not in answered, data.hex()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /room HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /room HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /room HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"GET /room HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"POST /room HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=range(8),
)
async def test_invalid_handshake_gets_an_http_error(world: World, request_bytes: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.served.port)
    try:
        writer.write(request_bytes)
        writer.write_eof()
        async with asyncio.timeout(WAIT_SECONDS):
            answered = await reader.read()
    finally:
        writer.close()
    assert answered == b"" or answered.startswith(b"HTTP/1.1 4"), answered
    assert b"Traceback" not in answered
