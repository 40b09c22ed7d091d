"""Plain text frames are read as websockets' parser reads them, and everything else is left to it."""

import asyncio
import logging
import random
from collections.abc import Iterator

import falcon.asgi
import pytest
from websockets.server import ServerProtocol
from websockets.version import version

from falcon_pachinko import App, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import connect
from falcon_pachinko.uvicorn import PushProtocol, frames
from falcon_pachinko.uvicorn.frames import REQUEST, SLICE_BYTES, is_supported, read_text_frames
from falcon_pachinko.uvicorn.input import BoundedInput
from falcon_pachinko.uvicorn.start_check import check_options

from ..stress.frame_fuzz import BAD, CLOSES, GOOD, Arena, cut, fuzz, plain
from ..support.servers import serve_by_push
from ..support.stranger import BINARY, PING, TEXT, frame

QUIET = logging.Logger("quiet", logging.ERROR)
KINDS = GOOD | BAD | CLOSES


class Texts:
    """An inbox that keeps texts; the connection closes when it gets the text ``close``."""

    def __init__(self, conn: ServerProtocol) -> None:
        self.conn = conn
        self.received = self.received_bytes = 0
        self.texts: list[str] = []

    def feed(self, message: str, /) -> None:
        self.texts.append(message)
        if message == "close":
            self.conn.send_close(1000)


def open_connection(
    max_size: int | tuple[int, int] | None = 65_536, logger: logging.Logger = QUIET
) -> ServerProtocol:
    """Return a connection whose handshake is complete."""
    conn = ServerProtocol(max_size=max_size, logger=logger)
    conn.receive_data(REQUEST)
    (request,) = conn.events_received()
    conn.send_response(conn.accept(request))  # type: ignore[arg-type]
    return conn


def read(conn: ServerProtocol, data: bytes) -> tuple[list[str], int]:
    """Return the texts that are read at the start of data, and the number of bytes."""
    inbox = Texts(conn)
    end = read_text_frames(conn, inbox, data, 0)
    assert inbox.received == len(inbox.texts)
    assert inbox.received_bytes == len("".join(inbox.texts).encode())
    return inbox.texts, end


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535])
def test_a_text_is_read(size: int) -> None:
    data = frame(TEXT, b"x" * size)
    assert read(open_connection(), data) == (["x" * size], len(data))


def test_all_texts_at_the_start_of_the_data_are_read() -> None:
    texts = [frame(TEXT, f"é{number}".encode()) for number in range(20)]
    for rest in (frame(PING, b""), frame(BINARY, b"ab"), texts[0][:-1], texts[0][:1]):
        found, end = read(open_connection(), b"".join(texts) + rest)
        assert found == [f"é{number}" for number in range(20)]
        assert end == sum(map(len, texts))


def test_texts_that_begin_in_a_slice_are_read_at_once() -> None:
    """As many as websockets would parse before the inbox is looked at."""
    one = frame(TEXT, b"x" * 94)
    found, end = read(open_connection(), one * 200)
    assert len(found) == -(-SLICE_BYTES // len(one))
    assert end == len(found) * len(one)


def test_nothing_is_read_after_a_close() -> None:
    conn = open_connection()
    data = frame(TEXT, b"close")
    assert read(conn, data * 2) == (["close"], len(data))
    assert read(conn, data) == ([], 0)


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"ab", fin=False),
        frame(TEXT, b"ab", rsv=4),
        frame(TEXT, b"ab" * 20, masked=False),
        frame(TEXT, b"ab" * 62, masked=False),
        frame(TEXT, b"\xff"),
        frame(TEXT, b"x" * 65_536),
        b"\x81\xfe\x00\x02\x00\x00\x00\x00ab",
        b"\x81\xfe\x00",
    ],
    ids=[
        *("fragment", "reserved", "short, not masked", "not masked"),
        *("UTF-8", "64-bit", "long form", "incomplete"),
    ],
)
def test_other_frames_are_left_to_websockets(data: bytes) -> None:
    text = frame(TEXT, b"ok")
    assert read(open_connection(max_size=100_000), text + data) == (["ok"], len(text))
    assert read(open_connection(max_size=100_000), data) == ([], 0)


def test_the_bound_of_a_message_holds() -> None:
    assert read(open_connection(max_size=3), frame(TEXT, b"abcd")) == ([], 0)
    assert read(open_connection(max_size=4), frame(TEXT, b"abcd")) == (["abcd"], 10)
    assert read(open_connection(max_size=None), frame(TEXT, b"abcd")) == (["abcd"], 10)
    assert read(open_connection(max_size=(9, 3)), frame(TEXT, b"abcd")) == ([], 0)


@pytest.mark.parametrize(
    ("before", "reads"),
    [
        (b"", True),
        (frame(TEXT, b"ab"), True),
        (frame(TEXT, b"ab")[:-1], False),
        (frame(TEXT, b"ab")[:1], False),
        (frame(TEXT, b"ab", fin=False), False),
        (frame(TEXT, b"ab", fin=False) + frame(0, b""), True),
        (frame(8, b""), False),
    ],
)
def test_texts_are_read_between_two_messages_only(before: bytes, reads: bool) -> None:
    conn = open_connection()
    if before:
        conn.receive_data(before)
    assert read(conn, frame(TEXT, b"ok"))[0] == (["ok"] if reads else [])


def test_nothing_is_read_before_the_handshake_and_for_a_log_of_frames() -> None:
    assert read(ServerProtocol(logger=QUIET), frame(TEXT, b"early")) == ([], 0)
    verbose = open_connection(logger=logging.Logger("verbose", logging.DEBUG))
    assert read(verbose, frame(TEXT, b"logged")) == ([], 0)


def test_the_installed_websockets_is_supported(caplog: pytest.LogCaptureFixture) -> None:
    is_supported.cache_clear()
    assert is_supported()
    assert caplog.records == []


@pytest.fixture(params=["AT_EOF", "PARSE", "REQUEST"])
def unknown_parser(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A parser of which this module does not know a part; without a request, the check itself fails."""
    monkeypatch.setattr(frames, request.param, b"")
    is_supported.cache_clear()
    yield
    is_supported.cache_clear()


@pytest.mark.usefixtures("unknown_parser")
def test_an_unknown_parser_is_logged_once_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    options = {"ws": PushProtocol, "ws_max_size": 65_536, "ws_per_message_deflate": False}
    check_options(options)
    check_options(options)
    lines = [r.getMessage() for r in caplog.records if r.name == frames.__name__]
    assert len(lines) == 1
    assert f"websockets {version} " in lines[0]
    assert "install websockets" in lines[0]


@pytest.mark.usefixtures("unknown_parser")
async def test_an_unknown_parser_reads_all_messages(app: App) -> None:
    assert await echo_all(app) == [f"text {number}" for number in range(50)]


class Echo(WebSocketResource):
    @handles_message("echo")
    async def echo(self, ws: WebSocketLike, payload: str) -> None:
        await ws.send_text(payload)


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/", Echo)
    return app


async def echo_all(app: App) -> list[str | bytes]:
    """Return the replies to 50 messages."""
    async with serve_by_push(app) as served, connect(served.ws_url("/")) as client:
        for number in range(50):
            await client.send("echo", f"text {number}")
        return [await client.receive_raw() for _ in range(50)]


@pytest.mark.parametrize("accelerated", [True, False])
async def test_messages_are_counted_and_the_accelerator_can_be_turned_off(
    app: App, monkeypatch: pytest.MonkeyPatch, accelerated: bool
) -> None:
    parsed: list[BoundedInput] = []
    parse = BoundedInput.send_receive_event_to_app

    def note_and_parse(protocol: BoundedInput) -> None:
        parsed.append(protocol)
        parse(protocol)

    monkeypatch.setattr(BoundedInput, "send_receive_event_to_app", note_and_parse)
    monkeypatch.setattr(BoundedInput, "accelerated", accelerated)
    assert await echo_all(app) == [f"text {number}" for number in range(50)]
    assert len(parsed) == (0 if accelerated else 50)


@pytest.fixture
async def arena() -> Arena:
    # NOTE: in its debug mode the loop would take seconds.
    asyncio.get_running_loop().set_debug(False)
    return Arena()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_readers_agree_wherever_a_read_ends(arena: Arena, kind: str) -> None:
    rng = random.Random(kind)
    parts = [*plain(rng), *KINDS[kind](rng), *plain(rng)]
    while sum(map(len, parts)) > 1_000 and kind != "too big":
        parts = [*plain(rng), *KINDS[kind](rng), *plain(rng)]
    data = b"".join(parts)
    await arena.compare(parts, [data])
    # Each position, or 2,000 of those in a message that is too big.
    for position in range(1, len(data), 1 + len(data) // 2_000):
        await arena.compare(parts, cut(data, [position]))


async def test_the_readers_agree_on_random_bytes(arena: Arena) -> None:
    counts = await fuzz(20, cases=200)
    assert counts["failed"] > 50
    assert counts["texts"] - counts["parsed texts"] > 500
