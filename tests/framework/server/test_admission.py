"""Which connections a process takes: in total, per address, and per second."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import App, Limits, ServerLimits, WebSocketLike, WebSocketResource, install
from falcon_pachinko.server import admission as module
from falcon_pachinko.server.admission import (
    COUNTED_EXTENSION,
    HANDSHAKES_PER_FLOOD,
    Admission,
    Place,
    Refusal,
    RepeatedLog,
)
from falcon_pachinko.testing import Refused, Served, connect, serve
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol

from ..support.backends import wait_until
from ..support.servers import SERVERS

WAIT_SECONDS = 15


def scope(host: str | None = "192.0.2.1", **values: Any) -> dict[str, Any]:
    client = None if host is None else [host, 50_000]
    return {"type": "websocket", "client": client, "headers": [], **values}


def place(result: Place | Refusal | None) -> Place:
    assert isinstance(result, Place), result
    return result


def status(result: Place | Refusal | None) -> int:
    return int(result.status) if isinstance(result, Refusal) else 101


def test_a_connection_above_the_total_is_refused_until_one_ends() -> None:
    admission = Admission(ServerLimits(connections=2))
    first = place(admission.enter_websocket(scope("192.0.2.1")))
    place(admission.enter_websocket(scope("192.0.2.2")))
    refused = admission.enter_websocket(scope("192.0.2.3"))
    assert status(refused) == 503
    assert isinstance(refused, Refusal)
    assert dict(refused.headers)[b"retry-after"].isdigit()
    first.release()
    first.release()  # only once
    place(admission.enter_websocket(scope("192.0.2.3")))
    assert status(admission.enter_websocket(scope("192.0.2.4"))) == 503
    assert admission.websockets.total == 2


@pytest.mark.parametrize(
    ("hosts", "other"),
    [
        (["192.0.2.1", "192.0.2.1"], "192.0.2.2"),
        (["::ffff:192.0.2.1", "192.0.2.1"], "::ffff:192.0.2.2"),
        (["2001:db8::1", "2001:db8::ffff:1"], "2001:db8:0:1::1"),
    ],
)
def test_connections_of_one_address_are_counted_together(hosts: list[str], other: str) -> None:
    admission = Admission(ServerLimits(connections_per_address=2))
    places = [place(admission.enter_websocket(scope(host))) for host in hosts]
    assert status(admission.enter_websocket(scope(hosts[0]))) == 429
    place(admission.enter_websocket(scope(other))).release()
    for taken in places:
        taken.release()
    assert not admission.websockets.per_address
    assert admission.websockets.total == 0


def test_clients_of_a_unix_socket_have_no_address() -> None:
    admission = Admission(ServerLimits(connections_per_address=1, handshake_burst=1, connections=3))
    for client in (None, ["", 0], [None, 0]):
        place(admission.enter_websocket(scope(None, client=client)))
    assert status(admission.enter_websocket(scope(None))) == 503


def test_handshakes_of_one_address_have_a_rate() -> None:
    admission = Admission(ServerLimits(handshakes_per_second=0.001, handshake_burst=3))
    results = [status(admission.enter_websocket(scope())) for _ in range(5)]
    assert results == [101, 101, 101, 429, 429]
    assert status(admission.enter_websocket(scope("192.0.2.2"))) == 101
    # A server that has counted the handshake says so.
    assert status(admission.enter_websocket(scope(extensions={COUNTED_EXTENSION: {}}))) == 101


def test_refused_handshakes_add_no_debt() -> None:
    admission = Admission(ServerLimits(handshakes_per_second=1_000_000, handshake_burst=1))
    for _ in range(100):
        admission.enter_websocket(scope())
    assert admission.handshakes.of("192.0.2.1", 0.0).tokens > -1


def test_a_flood_from_many_addresses_fills_no_table() -> None:
    admission = Admission(ServerLimits(handshakes_per_second=1e9))
    for number in range(30_000):
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        place(admission.enter_websocket(scope(host))).release()
    assert not admission.websockets.per_address
    assert len(admission.handshakes) < 1_000


def test_the_process_is_not_ready_shortly_before_the_bound() -> None:
    admission = Admission(ServerLimits(connections=100, connections_per_address=200))
    places = [place(admission.enter_websocket(scope())) for _ in range(94)]
    assert admission.overload == ""
    places.append(place(admission.enter_socket(None)))
    assert admission.overload == ""
    places.append(place(admission.enter_websocket(scope())))
    assert admission.overload == "95 of 100 connections are in use"
    places.pop().release()
    assert admission.overload == ""


@pytest.mark.parametrize(
    ("files", "connections"), [(1_000_000, 10_000), (1_024, 824), (300, 150), (None, 10_000)]
)
def test_the_bound_leaves_files_for_other_purposes(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    files: int | None,
    connections: int,
) -> None:
    monkeypatch.setattr(module, "raise_open_files", lambda: files)
    admission = Admission()
    with caplog.at_level(logging.INFO):
        admission.start()
    assert admission.connections == connections
    (line,) = caplog.messages
    assert line.startswith(f"this process takes {connections} connections")


def test_the_first_refusal_is_logged_and_then_their_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000.0
    monkeypatch.setattr("falcon_pachinko.server.admission.time.monotonic", lambda: now)
    log = RepeatedLog(logging.WARNING)
    for _ in range(1_000):
        log.add("refused %s", "a")
    now += module.LOG_SECONDS
    log.add("refused %s", "b")
    assert caplog.messages == ["refused a", "refused b (and 999 times since the last line)"]


@pytest.mark.parametrize(
    ("client", "forwarded", "warns"),
    [
        ("192.0.2.1", "198.51.100.7", True),
        ("198.51.100.7", "198.51.100.7", False),  # of a trusted proxy
        ("198.51.100.7", "203.0.113.1, 198.51.100.7", False),
        ("198.51.100.7", "::ffff:198.51.100.7", False),
        ("2001:db8::7", "2001:0DB8::7", False),
        ("192.0.2.1", None, False),
        (None, "198.51.100.7", False),
    ],
)
def test_a_proxy_that_is_not_trusted_is_named_once(
    caplog: pytest.LogCaptureFixture, client: str | None, forwarded: str | None, warns: bool
) -> None:
    admission = Admission()
    headers = [(b"host", b"a")]
    if forwarded is not None:
        headers.append((b"x-forwarded-for", forwarded.encode()))
    for _ in range(3):
        place(admission.enter_websocket(scope(client, headers=headers)))
    assert len(caplog.messages) == warns
    if warns:
        assert "192.0.2.1" in caplog.text
        assert "APP_TRUSTED_PROXIES" in caplog.text


class Room(WebSocketResource):
    """Accepts, refuses or fails, by the name in its path."""

    limits = Limits(on_connect_seconds=1, messages_per_second=0.001, message_burst=2)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *, ending: str, **params: Any
    ) -> bool:
        if ending == "crash":
            raise RuntimeError("broken")
        if ending == "hang":
            await asyncio.Event().wait()
        return ending != "refuse"


def make_app(**limits: Any) -> App:
    app = install(falcon.asgi.App(), server_limits=ServerLimits(**limits))
    app.add_websocket_route("/{ending}", Room)
    return app


async def wait_unused(app: App) -> None:
    """Wait until no connection is counted."""
    counts = app.ws_admission
    async with asyncio.timeout(WAIT_SECONDS):
        await wait_until(
            lambda: not (counts.sockets.total or counts.websockets.total or counts.refused_sockets)
        )
    assert not counts.sockets.per_address
    assert not counts.websockets.per_address


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"connections": 1}, 503),
        ({"connections_per_address": 1}, 429),
        ({"handshake_burst": 1, "handshakes_per_second": 0.001}, 429),
    ],
    ids=["total", "address", "rate"],
)
async def test_a_refused_handshake_gets_the_status(
    server: str, limits: dict[str, Any], expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(**limits)
    async with asyncio.timeout(WAIT_SECONDS), SERVERS[server](app) as endpoint:
        async with connect(endpoint.ws_url("/stay")):
            with pytest.raises(Refused) as refused:
                async with connect(endpoint.ws_url("/stay")):
                    pass
        assert refused.value.status_code == expected
        await wait_unused(app)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_server_without_http_responses_closes() -> None:
    app = make_app(handshake_burst=1)
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(event: Mapping[str, Any]) -> None:
        sent.append(event)

    app.ws_admission.enter_websocket(scope())
    await app(scope(extensions=None), receive, send)
    assert [event["type"] for event in sent] == ["websocket.close"]


@pytest.mark.parametrize("server", SERVERS)
async def test_a_connection_is_counted_until_it_ends_however_it_ends(server: str) -> None:
    app = make_app()
    async with asyncio.timeout(WAIT_SECONDS), SERVERS[server](app) as endpoint:
        async with connect(endpoint.ws_url("/stay")):
            assert app.ws_admission.websockets.total == 1
        for ending in ("refuse", "crash"):
            with pytest.raises(Refused):
                async with connect(endpoint.ws_url(f"/{ending}")):
                    pass
        _, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write(HANDSHAKE.replace(b"/stay", b"/hang"))
        async with asyncio.timeout(WAIT_SECONDS):
            await wait_until(lambda: bool(app.ws_admission.websockets.total))
        writer.transport.abort()
        await wait_unused(app)


HANDSHAKE = (
    b"GET /stay HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@asynccontextmanager
async def serve_sockets(
    *, trusts_loopback: bool, **limits: Any
) -> AsyncIterator[tuple[App, Served]]:
    """Serve by uvicorn with both of our protocols, which count each socket."""
    app = make_app(**limits)
    proxies = ["127.0.0.1"] if trusts_loopback else ["192.0.2.1"]
    options: dict[str, Any] = {
        "http": BoundedHTTPProtocol,
        "ws": PushProtocol,
        "forwarded_allow_ips": proxies,
    }
    async with asyncio.timeout(WAIT_SECONDS), serve(app, **options) as served:
        yield app, served
        await wait_unused(app)


async def exchange(port: int, request: bytes) -> bytes:
    """Send a request and return the server's output until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({"connections": 2}, b"503 Service"), ({"connections_per_address": 2}, b"429 Too Many")],
)
async def test_a_socket_above_the_bound_is_refused_when_it_is_accepted(
    limits: dict[str, Any], expected: bytes
) -> None:
    async with serve_sockets(trusts_loopback=False, **limits) as (app, served):
        silent = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2)]
        await wait_until(lambda: app.ws_admission.sockets.total == 2)
        for request in (b"", b"GET / HTTP/1.1\r\n\r\n", HANDSHAKE):
            data = await exchange(served.port, request)
            assert data.startswith(b"HTTP/1.1 " + expected)
            assert b"\r\nretry-after: 10\r\n" in data
        for _, writer in silent:
            writer.close()
        await wait_unused(app)
        async with served.connect("/stay"):
            pass


async def test_sockets_of_a_trusted_proxy_are_counted_by_the_forwarded_address() -> None:
    limits = {"connections_per_address": 1, "handshake_burst": 2, "handshakes_per_second": 0.001}
    async with serve_sockets(trusts_loopback=True, **limits) as (app, served):

        def from_address(host: str) -> Any:
            return served.connect("/stay", headers={"X-Forwarded-For": host})

        async with from_address("192.0.2.7"), from_address("192.0.2.8"):
            assert app.ws_admission.sockets.per_address == {}
            assert app.ws_admission.websockets.per_address == {"192.0.2.7": 1, "192.0.2.8": 1}
            with pytest.raises(Refused, match="429"):
                async with from_address("192.0.2.7"):
                    pass
        with pytest.raises(Refused, match="429"):  # the rate
            async with from_address("192.0.2.7"):
                pass
        async with from_address("192.0.2.9"):
            pass


async def test_each_handshake_takes_one_token() -> None:
    limits = {"handshake_burst": 3, "handshakes_per_second": 0.001}
    async with serve_sockets(trusts_loopback=False, **limits) as (_, served):
        for _ in range(3):
            async with served.connect("/stay"):
                pass
        for _ in range(2):
            data = await exchange(served.port, HANDSHAKE)
            assert data.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nretry-after: 1\r\n" in data


@pytest.mark.parametrize("server", SERVERS)
async def test_a_flood_of_messages_costs_its_address_handshakes(server: str) -> None:
    """So a client that reconnects for the next flood is refused at the handshake."""
    app = make_app(handshake_burst=HANDSHAKES_PER_FLOOD + 1, handshakes_per_second=0.001)
    async with asyncio.timeout(WAIT_SECONDS), SERVERS[server](app) as endpoint:
        async with connect(endpoint.ws_url("/flooded"), compression=None) as client:
            for _ in range(10):
                await client.send("nonsense")
            assert (await client.wait_closed())[0] == 4029
        await wait_unused(app)
        with pytest.raises(Refused) as refused:
            async with connect(endpoint.ws_url("/stay")):
                pass
        assert refused.value.status_code == 429


async def test_a_flood_of_refused_sockets_holds_few_of_them() -> None:
    async with serve_sockets(trusts_loopback=False, connections=1) as (app, served):
        flood = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(300)]
        await wait_until(lambda: app.ws_admission.refused_sockets == 100)
        assert len(served.server.server_state.connections) <= 101
        for _, writer in flood:
            writer.transport.abort()
