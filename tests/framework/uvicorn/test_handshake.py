"""Each WebSocket handshake is answered, and the application gets all headers, however long."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import falcon.asgi
import pytest
import uvicorn
from uvicorn.server import ServerState

from falcon_pachinko import App, ServerLimits, WebSocketLike, WebSocketResource, install
from falcon_pachinko.testing import Served, connect, serve
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol
from falcon_pachinko.uvicorn.handshake import UVICORN_ATTRIBUTES, HandshakeProtocol, shorten_head
from falcon_pachinko.uvicorn.protocol import PushSansIOProtocol

from ..stress.handshake_fuzz import Transport
from ..support.backends import wait_until
from ..support.counted import counted_app, number

WAIT_SECONDS = 15
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
VALID = UPGRADE + KEY + VERSION


@pytest.fixture(params=[True, False], ids=["accelerated", "parsed"], autouse=True)
def accelerated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether plain handshakes are read without websockets' parser."""
    monkeypatch.setattr(PushSansIOProtocol, "accelerated", request.param)
    return bool(request.param)


class Room(WebSocketResource):
    """Records the requests that it accepts."""

    def __init__(self, requests: list[falcon.asgi.Request]) -> None:
        self.requests = requests

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any) -> bool:
        self.requests.append(req)
        return True


class Site:
    def __init__(self, app: App, served: Served, requests: list[falcon.asgi.Request]) -> None:
        self.app = app
        self.port = served.port
        self.protocols = served.server.server_state.connections
        self.requests = requests

    async def handshake(self, data: bytes) -> bytes:
        """Send a handshake; return the response, and that of an accepted one without waiting for its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                writer.write(data)
                head = await reader.readuntil(b"\r\n\r\n")
                return head if b" 101 " in head else head + await reader.read()
        finally:
            writer.close()

    async def status(
        self, lines: bytes, url: bytes = b"/room", method: bytes = b"GET", version: bytes = b"1.1"
    ) -> int:
        data = await self.handshake(
            method + b" " + url + b" HTTP/" + version + b"\r\nHost: a\r\n" + lines + b"\r\n"
        )
        assert data.count(b"HTTP/1.1 ") == 1
        return int(data.split()[1])


@asynccontextmanager
async def serve_site(**options: Any) -> AsyncIterator[Site]:
    app = install(falcon.asgi.App(), server_limits=ServerLimits())
    requests: list[falcon.asgi.Request] = []
    app.add_websocket_route("/room", Room, requests)
    options = {"ws": PushProtocol, "http": BoundedHTTPProtocol, **options}
    async with asyncio.timeout(2 * WAIT_SECONDS), serve(app, **options) as served:
        yield Site(app, served, requests)
        await wait_until(
            lambda: not (app.ws_admission.sockets.total or app.ws_admission.websockets.total)
        )


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (VALID, 101),
        (VALID + b"Cookie: c=" + b"a" * 9_000 + b"\r\n", 101),
        (VALID + b"Cookie: c=" + b"a" * 16_384 + b"\r\n", 101),
        (VALID + b"Authorization: " + b"a" * 20_480 + b"\r\n", 101),
        (VALID + b"X: a\r\n" * 95, 101),
        (VALID + b"X: a\r\n" * 96, 431),
        (VALID + b"X: a\r\n" * 129, 431),
        (VALID + b"X: " + b"a" * 40_000 + b"\r\n", 431),
        (UPGRADE + VERSION, 400),
        (UPGRADE + KEY, 400),
        (UPGRADE + VERSION + b"Sec-WebSocket-Key: short\r\n", 400),
        (UPGRADE + VERSION + b"Sec-WebSocket-Key: \xff\xfe\r\n", 400),
        (UPGRADE + VERSION + b"Sec-WebSocket-Key: " + b"a" * 9_000 + b"\r\n", 400),
        (UPGRADE + KEY + b"Sec-WebSocket-Version: 8\r\n", 400),
        (VALID + KEY, 400),
        (VALID + VERSION, 400),
        (VALID + b"Origin: http://a\r\nOrigin: http://b\r\n", 400),
        (VALID + b"Upgrade: websocket\r\n", 426),
        (VALID + b"Content-Length: 3\r\n", 400),
        (VALID + b"Transfer-Encoding: chunked\r\n", 400),
        (VALID + b"no colon\r\n", 400),
        (VALID + b"X: \0\r\n", 400),
        (VALID + b"X: \x7f\r\n", 400),
        (VALID + b"Sec-WebSocket-Extensions: " + b"a," * 5_000 + b"\r\n", 101),
        (VALID + b"Sec-WebSocket-Extensions: ;;;\r\n", 400),
        (VALID + b"Sec-WebSocket-Protocol: ,,,\r\n", 400),
    ],
)  # fmt: skip
async def test_a_handshake_is_answered(lines: bytes, status: int) -> None:
    async with serve_site() as site:
        assert await site.status(lines) == status


async def test_invalid_handshakes_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    app, metrics = counted_app()
    invalid = (UPGRADE + VERSION, UPGRADE + KEY, VALID + b"Upgrade: websocket\r\n", VALID + KEY)
    with caplog.at_level(logging.INFO, "falcon_pachinko"):
        async with serve(app, ws=PushProtocol, http=BoundedHTTPProtocol) as served:
            site = Site(app, served, [])
            statuses = [await site.status(lines, b"/alice") for lines in invalid]
            statuses.append(await site.status(VALID, b"/alice", version=b"1.0"))
            assert statuses == [400, 400, 426, 400, 400]
            assert await site.status(VALID, b"/alice") == 101
    assert number(metrics, "refusals_total", "invalid") == len(statuses)
    lines = [line for line in caplog.messages if "invalid handshake" in line]
    assert lines == ["refused a request of 127.0.0.1: invalid handshake"]


@pytest.mark.parametrize("url_bytes", [8_180, 8_192, 8_193, 9_000])
async def test_a_long_url_is_answered(url_bytes: int) -> None:
    async with serve_site() as site:
        url = b"/room?" + b"a" * (url_bytes - 6)
        assert await site.status(VALID, url) == (101 if url_bytes <= 8_192 else 414)
        if site.requests:
            assert site.requests[0].query_string == url[6:].decode()


async def test_other_methods_and_versions_are_answered() -> None:
    async with serve_site() as site:
        assert await site.status(VALID, method=b"POST") == 405
        assert await site.status(VALID, version=b"1.0") == 400


async def test_the_application_gets_all_headers_as_received() -> None:
    async with serve_site() as site:
        cookie = b"Cookie: first=" + b"a" * 9_000 + b"; second=b\r\n"
        extra = b"X-First: 1\r\nX-Latin: \xe4\r\n" + b"X-%d: a\r\n" * 60 % tuple(range(60))
        assert await site.status(VALID + extra + cookie, b"/room?q=%20") == 101
        (request,) = site.requests
        assert request.cookies["first"] == "a" * 9_000
        assert request.cookies["second"] == "b"
        assert request.get_header("X-First") == "1"
        assert request.get_header("X-Latin") == "\xe4"
        assert request.get_header("Host") == "a"
        assert request.get_header("Sec-WebSocket-Version") == "13"
        assert request.get_header("X-59") == "a"
        assert request.query_string == "q=%20"


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_a_large_cookie_works_with_uvicorns_own_http_protocols(http: str) -> None:
    async with serve_site(http=http) as site:
        assert await site.status(VALID + b"Cookie: c=" + b"a" * 9_000 + b"\r\n") == 101
        assert await site.status(VALID + b"X: a\r\n" * 128) == 101
        assert await site.status(VALID, b"/room?" + b"a" * 8_174) == 101
        assert await site.status(VALID + b"Content-Length: 3\r\n") == 400
        assert site.requests[0].cookies["c"] == "a" * 9_000
        assert site.requests[2].query_string == "a" * 8_174


async def test_uvicorns_own_websocket_protocol_is_counted_too() -> None:
    async with serve_site(ws="websockets-sansio") as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"GET /room HTTP/1.1\r\nHost: a\r\n" + VALID + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert site.app.ws_admission.sockets.total == 1
        writer.close()


async def test_a_connection_is_counted_until_it_ends() -> None:
    async with serve_site() as site:
        counts = site.app.ws_admission
        url = f"ws://127.0.0.1:{site.port}/room"
        async with connect(url), connect(url):
            assert (counts.sockets.total, counts.websockets.total) == (2, 2)
        async with asyncio.timeout(WAIT_SECONDS):
            await wait_until(lambda: counts.sockets.total == 0)
        assert not counts.sockets.per_address
        assert not counts.websockets.per_address


def test_a_short_head_is_not_changed() -> None:
    data = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    assert shorten_head(data) == (data, None)
    data = b"GET / HTTP/1.1\r\n" + b"x: " + b"a" * 5_000 + b"\r\ny: " + b"a" * 5_000 + b"\r\n\r\n"
    assert shorten_head(data) == (data, None)


async def test_a_plain_handshake_leaves_no_objects_of_websockets(accelerated: bool) -> None:
    async with (
        serve_site(ws_per_message_deflate=False) as site,
        connect(f"ws://127.0.0.1:{site.port}/room"),
    ):
        protocol: Any = next(iter(site.protocols))
        assert protocol.request is None
        assert (protocol.response is None) == accelerated
        assert protocol.accept_key is None
        assert "accept" not in vars(protocol.conn)


async def test_a_task_that_starts_at_once_sees_all_headers(accelerated: bool) -> None:
    """A task factory may start a task within ``create_task``, as that of ``asyncio.eager_task_factory`` does."""
    loop = asyncio.get_running_loop()

    def start_at_once(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        with suppress(StopIteration):
            coroutine.send(None)
        coroutine.close()
        return loop.create_future()

    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(dict(scope))

    config = uvicorn.Config(app, log_config=None, interface="asgi3", lifespan="off")
    config.load()
    request = b"GET / HTTP/1.1\r\n" + b"".join(
        name + b": " + value + b"\r\n"
        for name, value in (
            (b"host", b"a"),
            (b"origin", b"https://b"),
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        )
    )
    for factory in (start_at_once, None):
        transport: Any = Transport()
        protocol = PushSansIOProtocol(config, ServerState(), {})
        protocol.connection_made(transport)
        loop.set_task_factory(factory)
        try:
            protocol.receive_handshake(request + b"\r\n", False)
        finally:
            loop.set_task_factory(None)
        assert (protocol.accept_key is not None) == (accelerated and factory is None)
        await asyncio.sleep(0)
        assert (b"origin", b"https://b") in scopes.pop()["headers"]
        protocol.connection_lost(None)


def test_the_attributes_of_uvicorn_are_in_slots() -> None:
    """An attribute of a later release is found in ``__dict__``; it works, but takes more memory."""
    protocol = PushSansIOProtocol.__new__(PushSansIOProtocol)
    names = UVICORN_ATTRIBUTES.split()
    for name in names:
        setattr(protocol, name, None)
    assert vars(protocol) == {}
    assert set(HandshakeProtocol.__slots__) == set(names)
