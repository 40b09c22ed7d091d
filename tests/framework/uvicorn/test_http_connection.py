"""Connections that are too slow, or that have been refused, end; with real sockets."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import Limits
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, handshake, http, http_connection, sweep

from ..support.backends import wait_until
from ..support.http_site import HEAD, WAIT_SECONDS, Site, serve_site, statuses_of


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serve_site() as site:
        yield site


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.02)


async def test_a_silent_socket_is_closed_and_half_a_request_is_answered() -> None:
    async with serve_site(head_seconds=0.2) as site:
        assert await site.exchange(b"") == b""
        assert await site.statuses(b"GET / HT") == [408]
        assert await site.statuses(HEAD) == [408]
        assert await site.statuses(b"\r\n") == [408]


async def test_the_deadline_holds_for_a_head_that_arrives_byte_by_byte() -> None:
    async with serve_site(head_seconds=0.3) as site:
        reader, writer = await site.open()
        response = asyncio.ensure_future(reader.read())
        writer.write(HEAD + b"X: ")
        async with asyncio.timeout(WAIT_SECONDS):
            while not response.done():
                writer.write(b"a")
                await asyncio.sleep(0.02)
        assert statuses_of(await response) == [408]
        writer.close()


async def test_the_deadline_of_a_later_request_begins_with_its_first_byte() -> None:
    async with serve_site(head_seconds=0.4, keep_alive_seconds=60) as site:
        reader, writer = await site.open()
        writer.write(HEAD + b"\r\n")
        await reader.readuntil(b"page")
        await asyncio.sleep(0.8)  # longer than the deadline: the connection is kept alive
        writer.write(HEAD)
        async with asyncio.timeout(WAIT_SECONDS):
            assert statuses_of(await reader.read()) == [408]
        writer.close()


async def test_a_body_has_a_deadline(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.2)
    assert await site.statuses(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab") == [408]


async def test_an_idle_connection_is_closed_after_the_keep_alive_time() -> None:
    async with serve_site(keep_alive_seconds=0.2) as site:
        assert await site.statuses(HEAD + b"\r\n") == [200]


async def test_a_slow_application_is_not_the_clients_fault() -> None:
    async with serve_site(head_seconds=0.2) as site:
        reader, writer = await site.open()
        request = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
        writer.write(request + request)
        await asyncio.sleep(0.5)
        site.slow.may_answer.set()
        async with asyncio.timeout(WAIT_SECONDS):
            for _ in range(2):
                await reader.readuntil(b"slow")
        writer.close()


async def test_a_client_that_is_still_sending_can_read_the_refusal(site: Site) -> None:
    """Of a body that is read no further, 2 MB arrive; a reset would discard the response."""
    reader, writer = await site.open()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n"
    writer.write(head + b"a" * 150_000)
    async with asyncio.timeout(WAIT_SECONDS):
        assert statuses_of(await reader.read()) == [413]
    writer.close()


@pytest.mark.parametrize("sends", [b"", b"a" * 65_536], ids=["silent", "sending"])
async def test_a_refused_client_that_does_not_close_is_aborted(
    monkeypatch: pytest.MonkeyPatch, site: Site, sends: bytes
) -> None:
    monkeypatch.setattr(http_connection, "DEFAULT_LIMITS", Limits(close_seconds=0.3))
    reader, writer = await site.open()
    writer.write(b"\0")
    await reader.readuntil(b"invalid HTTP request")
    sent = 0
    async with asyncio.timeout(WAIT_SECONDS):
        while site.app.ws_admission.sockets.total:
            try:
                writer.write(sends)
                await asyncio.wait_for(writer.drain(), 0.02)
            except TimeoutError:
                continue
            except OSError:
                break
            sent += len(sends)
            await asyncio.sleep(0.005)
    assert sent < 8_000_000
    writer.transport.abort()


async def test_a_client_that_does_not_read_its_response_is_aborted(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    monkeypatch.setattr(http_connection, "RESPONSE_SECONDS", 0.3)

    class Large:
        async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
            resp.data = b"a" * 30_000_000

    site.app.add_route("/large", Large())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.served.port, limit=1)
    writer.write(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
    await reader.read(1)
    await site.wait_empty()
    writer.transport.abort()


async def test_a_client_that_reads_slowly_gets_its_whole_response(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    monkeypatch.setattr(http_connection, "RESPONSE_SECONDS", 0.3)

    class Large:
        async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
            resp.data = b"a" * 12_000_000

    site.app.add_route("/large", Large())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.served.port, limit=65_536)
    writer.write(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
    received, started = 0, asyncio.get_running_loop().time()
    async with asyncio.timeout(WAIT_SECONDS):
        while data := await reader.read(100_000):
            received += len(data)
            await asyncio.sleep(0.005)
    assert received > 12_000_000
    assert asyncio.get_running_loop().time() - started > 0.3
    writer.close()


@pytest.mark.parametrize(
    "request_data",
    [
        b"",
        b"\0",
        HEAD + b"\r\n",
        (HEAD + b"\r\n") * 40,
        b"POST / HTTP/1.1\r\nContent-Length: 70000\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na",
        b"GET /slow HTTP/1.1\r\n\r\n" + HEAD + b"\r\n",
        HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n",
    ],
)
async def test_an_ended_connection_leaves_no_garbage(site: Site, request_data: bytes) -> None:
    """Full garbage collections are rare in the service, so a flood would fill the memory until then."""
    protocols = (http_connection.HTTPConnection, handshake.HandshakeProtocol)

    def count() -> int:
        return sum(issubclass(type(each), protocols) for each in gc.get_objects())

    gc.collect()
    of_other_tests = count()
    gc.disable()
    try:
        for _ in range(3):
            reader, writer = await site.open()
            writer.write(request_data)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
            writer.close()
        await site.wait_empty()
        site.slow.may_answer.set()
        await wait_until(lambda: count() <= of_other_tests)
    finally:
        gc.enable()


async def test_the_body_of_a_client_that_expects_100_is_requested(site: Site) -> None:
    reader, writer = await site.open()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    async with asyncio.timeout(WAIT_SECONDS):
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abcde")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(1) == b"5"
    writer.close()


@pytest.mark.parametrize("chunk", [b"ZZ\r\n", b"20000\r\n" + b"a" * 0x20000 + b"\r\n"])
async def test_a_refused_request_that_expects_100_gets_the_refusal_only(
    site: Site, chunk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = (
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    data = await site.exchange(head + chunk)
    assert b"100 Continue" not in data
    assert data.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
    assert not [record for record in caplog.records if record.exc_info]


async def test_each_waiting_request_gets_the_disconnect_of_its_client() -> None:
    """The bounds are those by default for an application that is not ours."""
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        events.append((await receive())["type"])
        events.append((await receive())["type"])

    options: dict[str, Any] = {"lifespan": "off", "http": BoundedHTTPProtocol}
    async with asyncio.timeout(WAIT_SECONDS), serve(app, **options) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write((HEAD + b"\r\n") * 2)
        await wait_until(lambda: events == ["http.request"])
        writer.transport.abort()
        await wait_until(lambda: events == ["http.request", "http.disconnect"])
        assert (await read_all(served.port, b"\0")).startswith(b"HTTP/1.1 400 ")


async def read_all(port: int, request: bytes) -> bytes:
    """Send a request and return the server's output until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()
