"""Whatever a stranger sends: a defined answer, nothing of our insides, and no harm to anybody else."""

import asyncio
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

from falcon_pachinko import Limits, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import Client, Served, connect, serve
from falcon_pachinko.uvicorn import PushProtocol

WAIT_SECONDS = 5.0
MAX_MESSAGE_BYTES = 300_000
TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9
PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1002, 1007, 1009
WAYS = {"push": PushProtocol, "uvicorn": "websockets-sansio"}


class Post(msgspec.Struct):
    text: str
    to: list[int] = []


class Room(WebSocketResource):
    """Answers each good message to its sender; a marker goes to everybody."""

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


def frame(
    opcode: int, data: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """A client's frame (RFC 6455 section 5.2); its mask is all zeros."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask = 0x80 if masked else 0
    if len(data) < 126:
        header = bytes([first, mask | len(data)])
    elif len(data) < 65_536:
        header = bytes([first, mask | 126]) + struct.pack("!H", len(data))
    else:
        header = bytes([first, mask | 127]) + struct.pack("!Q", len(data))
    return header + (bytes(4) if masked else b"") + data


class Stranger:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        async with asyncio.timeout(WAIT_SECONDS):
            await self.writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        """The next frame of the server: its opcode and what it carries."""
        async with asyncio.timeout(WAIT_SECONDS):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def answer(self) -> Any:
        """The next message of the server, decoded."""
        opcode, data = await self.receive()
        assert opcode == TEXT, (opcode, data)
        return json.loads(data)

    async def close_code(self) -> int:
        """The code with which the server closes."""
        opcode, data = await self.receive()
        assert opcode == CLOSE, (opcode, data)
        return int.from_bytes(data[:2], "big")


@asynccontextmanager
async def stranger(served: Served) -> AsyncIterator[Stranger]:
    """Connect somebody who has shaken hands and is in the room."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        writer.write(
            b"GET /room HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        yield Stranger(reader, writer)
    finally:
        writer.close()


class World:
    """A served room, and somebody in it who behaves."""

    def __init__(self, served: Served, bystander: Client) -> None:
        self.served = served
        self.bystander = bystander

    async def check_bystander(self) -> None:
        """Let somebody new speak to the bystander, and nobody else have spoken."""
        async with connect(self.served.ws_url("/room")) as speaker:
            await speaker.send("mark")
            assert await self.bystander.receive() == {"type": "marked"}


@pytest.fixture(params=WAYS)
async def world(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[World]:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", Room)
    options: dict[str, Any] = {"ws": WAYS[request.param], "ws_max_size": MAX_MESSAGE_BYTES}
    async with (
        serve(app, **options) as served,
        connect(served.ws_url("/room")) as bystander,
    ):
        world = World(served, bystander)
        yield world
        await world.check_bystander()
    shown = [record for record in caplog.records if record.exc_info and not uvicorns_own(record)]
    assert shown == [], "a stranger's input left a traceback in the log"


def uvicorns_own(record: logging.LogRecord) -> bool:
    """uvicorn 0.54 logs text that is not UTF-8 with a traceback, where it decodes it itself."""
    return record.getMessage() == "Invalid UTF-8 sequence received from client."


GOOD = {"type": "post", "payload": {"text": "hello", "to": [1]}}


def strange_messages(seed: int) -> Iterator[str]:
    """Texts which are no good messages, or good ones with a little change."""
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
async def test_each_strange_message_is_answered_once_and_the_connection_lives(
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
async def test_a_nasty_message_has_one_answer_too(world: World, message: str) -> None:
    async with stranger(world.served) as client:
        await client.send(frame(TEXT, message.encode()))
        answer = await client.answer()
        assert answer["type"] in ("serverError", "posted")
        await client.send(frame(TEXT, json.dumps(GOOD).encode()))
        assert (await client.answer())["type"] == "posted"


async def test_binary_messages_that_nobody_handles_are_answered(world: World) -> None:
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
async def test_who_breaks_the_protocol_is_closed_with_its_code(
    world: World, data: bytes, code: int
) -> None:
    async with stranger(world.served) as client:
        await client.send(frame(TEXT, json.dumps(GOOD).encode()))
        assert (await client.answer())["type"] == "posted"
        await client.send(data)
        assert await client.close_code() == code


@pytest.mark.parametrize("seed", [4, 5])
async def test_random_bytes_end_in_a_close_or_wait_for_more(world: World, seed: int) -> None:
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
async def test_a_wrong_handshake_gets_an_answer_of_http(world: World, request_bytes: bytes) -> None:
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
