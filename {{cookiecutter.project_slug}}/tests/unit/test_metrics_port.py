"""The port of the metrics answers one request per connection, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from {{ cookiecutter.package_name }} import metrics_port
from {{ cookiecutter.package_name }}.metrics_port import MetricsPort, is_token

TOKEN = "a token of a collector"
WAIT_SECONDS = 10.0


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A port of metrics that needs a token."""
    metrics = MetricsPort(lambda: b"a_metric 1.0\n", TOKEN)
    await metrics.open("127.0.0.1", 0)
    assert metrics.server is not None
    yield metrics.server.sockets[0].getsockname()[1]
    await metrics.close()
    await metrics.close()


async def request(port: int, data: bytes) -> bytes:
    """Send data and return everything until the end of the connection."""
    async with asyncio.timeout(WAIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        try:
            return await reader.read()
        except ConnectionResetError:  # with data that was not read
            return b""
        finally:
            writer.close()


def head(method: str, target: str, authorization: str = f"Bearer {TOKEN}") -> bytes:
    lines = (f"{method} {target} HTTP/1.1", "host: x", f"AUTHORIZATION: {authorization}", "", "")
    return "\r\n".join(lines).encode()


async def test_the_text_needs_the_token(port: int) -> None:
    answer = await request(port, head("GET", "/metrics"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n")
    assert b"\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n" in answer
    assert answer.endswith(b"\r\n\r\na_metric 1.0\n")
    assert (await request(port, head("GET", "/metrics?x=1"))).startswith(b"HTTP/1.1 200 ")
    without = await request(port, head("HEAD", "/metrics"))
    assert without.endswith(b"\r\n\r\n")
    assert b"content-length: 13\r\n" in without
    for authorization in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer \xff"):
        refused = await request(port, head("GET", "/metrics", authorization))
        assert refused.startswith(b"HTTP/1.1 401 Unauthorized\r\n"), authorization
        assert b"\r\nwww-authenticate: Bearer" in refused


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head("GET", "/"), b"404"),
        (head("GET", "/metrics/"), b"404"),
        (head("POST", "/metrics"), b"405"),
        (b"\r\n\r\n", b"404"),
        (b"\xff\xfe\r\n\r\n", b"404"),
    ],
)
async def test_other_requests_have_an_error(port: int, data: bytes, status: bytes) -> None:
    assert (await request(port, data)).startswith(b"HTTP/1.1 " + status)


async def test_a_head_that_is_too_large_or_too_slow_is_dropped(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await request(port, b"x" * 3 * metrics_port.MAX_HEAD_BYTES) == b""
    monkeypatch.setattr(metrics_port, "REQUEST_SECONDS", 0.01)
    assert await request(port, b"GET /metrics HTTP/1.1\r\n") == b""


async def test_more_connections_than_the_bound_are_closed_at_once(port: int) -> None:
    held = []
    for _ in range(metrics_port.MAX_CONNECTIONS):
        held.append(await asyncio.open_connection("127.0.0.1", port))
    assert await request(port, head("GET", "/metrics")) == b""
    held.pop()[1].close()
    async with asyncio.timeout(WAIT_SECONDS):
        while not await request(port, head("GET", "/metrics")):
            pass
    for _, writer in held:
        writer.close()


def test_a_token_is_compared_as_a_whole() -> None:
    assert is_token(f"bearer {TOKEN}", TOKEN)
    assert not is_token(f"Bearer {TOKEN}x", TOKEN)
    assert not is_token("", TOKEN)
