"""Plain handshakes are read and answered as by websockets; all others are left to it."""

import asyncio
import time

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.server import ServerProtocol

from falcon_pachinko.uvicorn.plain_handshake import (
    MAX_LINES,
    PlainHandshake,
    full_response,
    open_connection,
    plain_response,
    read_plain_handshake,
    skip_request,
)

from ..stress.handshake_fuzz import ANSWERS, TAILS, Arena, fuzz_for

LINES = (
    b"host: a",
    b"connection: Upgrade",
    b"upgrade: websocket",
    b"sec-websocket-version: 13",
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)
OFFER = b"sec-websocket-extensions: permessage-deflate; client_max_window_bits"
# The example of RFC 6455 section 1.3.
ACCEPT_KEY = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FRAME = b"\x81\x82\0\0\0\0hi"


def request(*lines: bytes, first: bytes = b"GET /a?b HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


def is_plain(*lines: bytes, first: bytes = b"GET /a?b HTTP/1.1", extensions: bool = True) -> bool:
    return read_plain_handshake(request(*lines, first=first), extensions=extensions) is not None


def without(name: bytes, *others: bytes) -> tuple[bytes, ...]:
    return (*(line for line in LINES if not line.startswith(name + b":")), *others)


def test_a_plain_handshake_is_read() -> None:
    found = read_plain_handshake(request(*LINES, b"cookie: a=\xc3\xa4"), extensions=True)
    headers = [tuple(line.split(b": ")) for line in LINES]
    assert found == PlainHandshake("/a?b", [*headers, (b"cookie", b"a=\xc3\xa4")], ACCEPT_KEY)  # type: ignore[list-item]


@pytest.mark.parametrize(
    "lines",
    [
        without(b"connection", b"connection: keep-alive, Upgrade"),
        without(b"upgrade", b"upgrade: WebSocket"),
        (*LINES, b"x: %d" % 1, b"y: a b\tc"),
        (*LINES, *(b"x-%d: a" % number for number in range(100))),
    ],
)
def test_variants_of_browsers_are_plain(lines: tuple[bytes, ...]) -> None:
    assert is_plain(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        *(without(line.partition(b":")[0]) for line in LINES[1:]),
        *((*LINES, line) for line in LINES),
        (*LINES, b"sec-websocket-protocol: chat"),
        (*LINES, b"content-length: 0"),
        (*LINES, b"transfer-encoding: chunked"),
        (*LINES, b"origin: http://a", b"origin: http://b"),
        (*LINES, b"x:a"),
        (*LINES, b"x: a "),
        (*LINES, b"x:  a"),
        (*LINES, b"x: "),
        (*LINES, b"X: a"),
        (*LINES, b"x y: a"),
        (*LINES, b"x: a\x00"),
        (*LINES, b"x: a\x7f"),
        (*LINES, b"x: a\n"),
        (*LINES, b""),
        (*LINES, b"x: " + b"a" * 8_200),
        (*LINES, *(b"x-%d: a" % number for number in range(MAX_LINES))),
        without(b"connection", b"connection: keep-alive"),
        without(b"upgrade", b"upgrade: websocket, h2c"),
        without(b"sec-websocket-version", b"sec-websocket-version: 8"),
        without(b"sec-websocket-key", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZR=="),
        without(b"sec-websocket-key", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ="),
        without(b"sec-websocket-key", b"sec-websocket-key: dGhlIHNhbXBsZSBub25j"),
    ],
)
def test_unusual_requests_are_not_plain(lines: tuple[bytes, ...]) -> None:
    assert not is_plain(*lines, extensions=False)


@pytest.mark.parametrize(
    "first",
    [
        *(b"POST / HTTP/1.1", b"GET / HTTP/1.0", b"GET  / HTTP/1.1", b"GET / a HTTP/1.1"),
        *(b"GET /\xe4 HTTP/1.1", b"GET / HTTP/1.1 ", b"\r\nGET / HTTP/1.1"),
    ],
)
def test_unusual_request_lines_are_not_plain(first: bytes) -> None:
    assert is_plain(*LINES)
    assert not is_plain(*LINES, first=first)


def test_an_offer_of_compression_is_plain_where_the_server_accepts_none() -> None:
    assert is_plain(*LINES, OFFER, extensions=False)
    assert not is_plain(*LINES, OFFER, extensions=True)
    assert is_plain(*LINES, extensions=True)


@pytest.mark.parametrize("value", [b"\t" * 7_000, b"a" + b" " * 7_000, b"a \t" * 2_300 + b"\x00"])
def test_no_head_takes_long(value: bytes) -> None:
    started = time.thread_time()
    for _ in range(20):
        assert not is_plain(*LINES, b"x: " + value)
    assert time.thread_time() - started < 0.5


def test_the_response_is_that_of_websockets() -> None:
    headers = [(b"Server", b"a\xe4\tb"), (b"x-empty", b""), (b"x", b"a"), (b"x", b"b")]
    response = full_response(ACCEPT_KEY)
    del response.headers["Date"]
    response.headers.update(
        [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    )
    assert plain_response(ACCEPT_KEY, headers) == response.serialize()


@pytest.mark.parametrize(
    "header", [(b"x", b"a\r\nb"), (b"x", b"\0"), (b"x-\xc4", b"a"), (b"", b"")]
)
def test_a_header_that_is_not_plain_needs_websockets(header: tuple[bytes, bytes]) -> None:
    assert plain_response(ACCEPT_KEY, [(b"a", b"b"), header]) is None


def test_the_full_response_is_that_of_websockets() -> None:
    conn = ServerProtocol()
    conn.receive_data(request(*LINES))
    (parsed,) = conn.events_received()
    expected = conn.accept(parsed)  # type: ignore[arg-type]
    response = full_response(ACCEPT_KEY)
    assert list(response.headers) == list(expected.headers)
    del response.headers["Date"], expected.headers["Date"]
    assert response == expected == Response(101, "Switching Protocols", Headers(expected.headers))


def test_frames_are_parsed_after_a_request_that_was_read_here() -> None:
    conn = ServerProtocol()
    skip_request(conn)
    conn.receive_data(FRAME[:3])  # before the response
    open_connection(conn)
    conn.receive_data(FRAME[3:])
    assert [event.data for event in conn.events_received()] == [b"hi"]  # type: ignore[union-attr]
    conn.send_text(b"a")
    assert conn.data_to_send() == [b"\x81\x01a"]


def test_both_ways_agree_on_random_requests_and_answers() -> None:
    """A longer run is ``make soak``."""
    plain, other = asyncio.run(fuzz_for(2.0, seed=1))
    assert plain > 20
    assert other > 20


async def test_both_ways_agree_on_each_answer() -> None:
    arena = Arena()
    for answers in ANSWERS:
        for tail in TAILS:
            for early in (b"", FRAME, b"\x88\x80\0\0\0\0"):
                await arena.compare(request(*LINES, OFFER), answers, early, tail=tail)
