"""Compressed messages: one frame for all clients that take it, and none for those that do not."""

import asyncio
import contextlib
import os
import zlib
from collections.abc import AsyncIterator
from typing import Any

import falcon.asgi
import pytest
import websockets
from websockets.frames import CloseCode

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.history import Position
from falcon_pachinko.publication import EVENT, Publication
from falcon_pachinko.testing import Served, serve
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn import deflate as compression
from falcon_pachinko.uvicorn.deflate import MIN_BYTES, compressed
from falcon_pachinko.uvicorn.frames import COMPRESSED_SLICE_BYTES

from ..support.rings import AVAILABLE, ring_for_small_rooms
from ..support.stranger import CONTINUATION, TEXT, deflate, frame, offering, stranger

WAIT_SECONDS = 15
RSV1 = 4
BROWSER = "permessage-deflate; client_max_window_bits"
AGREED = (
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover;"
    " server_max_window_bits=12; client_max_window_bits=12"
)
SMALL_WINDOW = "permessage-deflate; server_no_context_takeover; server_max_window_bits=9"
LONG = "a text that repeats itself, " * 20


# The connections whose handler never ends.
waiting: list[Any] = []


class Room(WebSocketResource):
    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any) -> bool:
        await self.join_room("room")
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await self.broadcast_to_room("room", {"type": "said", "payload": payload})

    @handles_message("wait")
    async def wait(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        waiting.append(self.connection)
        await asyncio.Event().wait()

    @handles_message("echo")
    async def echo(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media({"type": "echoed", "payload": payload})


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", Room)
    return app


@pytest.fixture(params=["transports", "ring"])
async def served(app: App, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    with contextlib.ExitStack() as stack:
        if request.param == "ring":
            if not AVAILABLE:
                pytest.skip("io_uring is not available here")
            stack.enter_context(ring_for_small_rooms(asyncio.get_running_loop()))
        async with serve(app, ws=PushProtocol, ws_per_message_deflate=True) as served:
            yield served


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each compressor that is made here."""
    made: list[None] = []

    class Counted:
        Z_SYNC_FLUSH = zlib.Z_SYNC_FLUSH

        @staticmethod
        def compressobj(**options: Any) -> Any:
            made.append(None)
            return zlib.compressobj(**options)

    monkeypatch.setattr(compression, "zlib", Counted)
    return made


def text_frame(kind: str, text: str) -> bytes:
    """Return a message of a client with a text, uncompressed."""
    return frame(TEXT, f'{{"type":"{kind}","payload":{{"text":"{text}"}}}}'.encode())


def inflated(data: bytes) -> bytes:
    """Return a compressed message, which needs no other one."""
    return zlib.decompressobj(wbits=-12).decompress(data + b"\x00\x00\xff\xff")


async def test_all_members_share_a_message_that_is_compressed_once(
    served: Served, compressions: list[None]
) -> None:
    async with (
        stranger(served, offering(BROWSER)) as first,
        stranger(served, offering(BROWSER)) as second,
        stranger(served, offering(SMALL_WINDOW)) as small,
        stranger(served) as plain,
    ):
        assert f"\r\nSec-WebSocket-Extensions: {AGREED}\r\n".encode() in first.response
        assert b"permessage-deflate" not in plain.response
        assert b"server_max_window_bits=9" in small.response
        await plain.send(text_frame("say", LONG))
        frames = [await client.receive_frame() for client in (first, second, small, plain)]
    whole = f'{{"type":"said","payload":{{"text":"{LONG}"}}}}'.encode()
    assert frames[0] == frames[1]
    assert frames[0][0] == 0xC1
    assert inflated(frames[0][1]) == whole
    assert len(frames[0][1]) < len(whole) / 4
    assert frames[2:] == [(0x81, whole), (0x81, whole)]
    assert len(compressions) == 1


async def test_short_messages_and_replies_have_their_own_form(
    served: Served, compressions: list[None]
) -> None:
    async with stranger(served, offering(BROWSER)) as client:
        for text in ("short", LONG):
            await client.send(text_frame("echo", text))
        replies = [await client.receive_frame(), await client.receive_frame()]
    assert replies[0] == (0x81, b'{"type":"echoed","payload":{"text":"short"}}')
    assert replies[1][0] == 0xC1
    assert LONG.encode() in inflated(replies[1][1])
    assert len(compressions) == 1


async def test_a_client_that_compresses_understands_and_is_understood(served: Served) -> None:
    async with websockets.connect(served.ws_url("/room"), compression="deflate") as client:
        for number in range(3):
            await client.send(f'{{"type":"say","payload":{{"text":"{LONG}{number}"}}}}')
            async with asyncio.timeout(WAIT_SECONDS):
                assert f"{LONG}{number}" in str(await client.recv())


async def test_data_behind_the_end_of_a_compressed_message_closes_the_connection(
    served: Served,
) -> None:
    async with stranger(served, offering(BROWSER)) as client:
        begin = frame(TEXT, deflate(b"x", zlib.Z_FINISH), fin=False, rsv=RSV1)
        await client.send(begin + frame(CONTINUATION, bytes(1_000), fin=False))
        assert await client.close_code() == CloseCode.PROTOCOL_ERROR


async def test_messages_that_inflate_fill_the_inbox_no_more_than_others(served: Served) -> None:
    waiting.clear()
    bomb = frame(TEXT, deflate(b"x" * 65_000), rsv=RSV1)
    async with stranger(served, offering(BROWSER)) as client:
        await client.send(text_frame("wait", "") + bomb * 50)
        async with asyncio.timeout(WAIT_SECONDS):
            while not (waiting and waiting[0]._inbox.protocol.paused_by):  # noqa: ASYNC110 (a pause sets no event)
                await asyncio.sleep(0.01)
        inbox = waiting[0]._inbox
        assert (
            inbox.size_bytes <= inbox.limits.inbox_bytes + COMPRESSED_SLICE_BYTES * 1_032 + 65_536
        )


def test_a_message_that_gains_nothing_is_not_compressed() -> None:
    short, long = Publication.of_text("a" * (MIN_BYTES - 1)), Publication.of_text("a" * MIN_BYTES)
    random = Publication.of_bytes(os.urandom(1_000))
    event = Publication.of_event({"type": "websocket.close"})
    assert compressed(short) is short
    assert compressed(random) is compressed(random) is random
    assert random.compressed[1] is None
    assert compressed(event).opcode == EVENT
    found = compressed(long)
    assert found is not long
    assert found.size_bytes == MIN_BYTES
    assert len(found.frame or b"") < 20


def test_a_message_that_is_numbered_is_compressed_again() -> None:
    publication = Publication({"type": "a", "payload": {"text": LONG}})
    before = compressed(publication)
    assert compressed(publication) is before
    publication.number(Position("epoch", 7), 1_000, shown=True)
    after = compressed(publication)
    assert after is not before
    assert after.frame is not None
    assert inflated(after.frame[4 if after.frame[1] == 126 else 2 :]) == publication.body
