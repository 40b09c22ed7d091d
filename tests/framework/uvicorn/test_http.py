"""Requests above the bounds are answered, and their connections end; with real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from falcon_pachinko.uvicorn import http, sweep

from ..support.backends import wait_until
from ..support.http_site import HEAD, WAIT_SECONDS, Site, serve_site, statuses_of

UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve_site() as site:
        yield site


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.02)


@pytest.mark.parametrize(
    ("request_parts", "status"),
    [
        ([HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n"], 431),
        ([HEAD + b"X: " + b"a" * 40_000], 431),
        ([HEAD, *[b"X: " + b"a" * 1_000 + b"\r\n"] * 40], 431),
        ([HEAD + b"X: a\r\n" * 101 + b"\r\n"], 431),
        ([b"GET /" + b"a" * 8_192 + b" HTTP/1.1\r\n\r\n"], 414),
        ([b"GET /?" + b"a" * 100_000], 414),
        ([b"\r\n" * 20_000], 431),
        ([b"X" * 100], 400),
        ([b"GET / HTTP/1.1\r\nno colon\r\n\r\n"], 400),
        ([b"GET / HTTP/1.1\r\nX: \0\r\n\r\n"], 400),
        ([b"GET / HTTP/1.1\r\n: empty\r\n\r\n"], 400),
        ([b"GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n"], 400),
        ([b"GET / HTTP/7.7\r\n\r\n"], 400),
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400),
        ([b"CONNECT a:1 HTTP/1.1\r\n\r\n"], 400),
        ([b"\x16\x03\x01\x02\x00"], 400),
        ([b"POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n"], 413),
        ([b"POST / HTTP/1.1\r\nContent-Length: 999999999999999999\r\nExpect: 100-continue\r\n\r\n"], 413),
        ([b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n"], 400),
        ([b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"], 400),
        ([b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"], 400),
        ([b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"], 400),
        ([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"a" * 65_536 + b"\r\n1\r\nb"], 413),
        ([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2000\r\n" + b"a" * 8_192 + b"\r\n"] + [b"2000\r\n" + b"a" * 8_192 + b"\r\n"] * 9, 413),
        ([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 700_000], 413),
        ([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"X: a\r\n" * 200], 431),
    ],
)  # fmt: skip
async def test_a_request_above_a_bound_is_answered_and_the_connection_ends(
    site: Site, request_parts: list[bytes], status: int
) -> None:
    data = await site.exchange(*request_parts)
    assert statuses_of(data) == [status]
    assert b"\r\nconnection: close\r\n" in data


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (HEAD + b"X: " + b"a" * 20_480 + b"\r\nCookie: c=" + b"a" * 8_000 + b"\r\n\r\n", 200),
        (HEAD + b"X: a\r\n" * 98 + b"\r\n", 200),
        (b"GET /?" + b"a" * 8_190 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /none" + b"a" * 8_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"\r\n\r\n" + HEAD + b"\r\n", 200),
        (HEAD + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
    ],
)
async def test_a_request_within_the_bounds_is_served(
    site: Site, request_head: bytes, status: int
) -> None:
    whole = request_head.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n")
    if b"h2c" in request_head:
        whole = request_head
    assert await site.statuses(whole) == [status]
    pieces = [whole[start : start + 999] for start in range(0, len(whole), 999)]
    assert await site.statuses(*pieces) == [status]


async def test_a_body_of_the_largest_size_is_served(site: Site) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    body = b"a" * 65_536
    for request in (
        head + b"Content-Length: 65536\r\n\r\n" + body,
        head + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + body + b"\r\n0\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 65_536 + b"0\r\n\r\n",
    ):
        assert (await site.exchange(request)).endswith(b"65536")


async def test_heads_are_counted_for_each_request_of_a_connection(site: Site) -> None:
    """Twenty heads of 30 KiB, some of which begin in the same piece as an earlier one ends."""
    large = HEAD + b"X: " + b"a" * 30_000 + b"\r\n\r\n"
    reader, writer = await site.open()
    for _ in range(10):
        writer.write(large + HEAD + b"\r\n")
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head
            await reader.readexactly(4)
    writer.write(HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n")
    assert statuses_of(await reader.read()) == [431]
    writer.close()


async def test_pipelined_requests_are_answered_in_order_up_to_a_bound(site: Site) -> None:
    slow, rest = b"GET /slow HTTP/1.1\r\n\r\n", HEAD + b"\r\n"
    reader, writer = await site.open()
    writer.write(slow + rest * http.MAX_PIPELINED + rest * 10_000)
    async with asyncio.timeout(WAIT_SECONDS):
        await wait_until(lambda: bool(site.slow.requests))
        site.slow.may_answer.set()
        assert statuses_of(await reader.read()) == [200] * (1 + http.MAX_PIPELINED) + [429]
    writer.close()


async def test_an_invalid_request_is_refused_after_the_responses_to_earlier_ones(
    site: Site,
) -> None:
    for bad, status in (
        (b"\0", 400),
        (HEAD + UPGRADE + b"\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nX", 400),
    ):
        site.slow.may_answer.clear()
        reader, writer = await site.open()
        writer.write(b"GET /slow HTTP/1.1\r\n\r\n" + HEAD + b"\r\n" + bad)
        await asyncio.sleep(0.1)
        site.slow.may_answer.set()
        async with asyncio.timeout(WAIT_SECONDS):
            assert statuses_of(await reader.read()) == [200, 200, status]
        writer.close()
