"""Connections that end in the order of a real client: over TLS, and before the application has accepted them."""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import Limits, RouteConfig, ServerLimits, WebSocketResource, install
from falcon_pachinko.limits import DEFAULT_LIMITS
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol
from falcon_pachinko.uvicorn.sweep import SWEEPS
from falcon_pachinko.uvicorn.write_batch import WRITE_BATCHES

from ..support.backends import wait_until
from ..support.certificate import make_certificate
from ..support.ring_rooms import NEW_LOOP
from ..support.rings import needs_ring, ring_for_small_rooms

SECONDS = 10.0
REQUEST = (
    b"GET /lobby HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# RFC 6455 section 5.5.1: a close frame without a code, masked with zeros.
CLOSE = b"\x88\x80\0\0\0\0"


class Lobby(WebSocketResource):
    async def on_connect(self, request: Any, response: Any) -> bool:
        await self.join_room("lobby")
        return True

    async def on_disconnect(self, ws: Any, close_code: int) -> None:
        """Exist: a resource without it has nothing to end."""


def make_app(limits: Limits = DEFAULT_LIMITS) -> Any:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/lobby", Lobby, route_config=RouteConfig(limits=limits))
    return app


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    try:
        return make_certificate(tmp_path_factory.mktemp("certificate"))
    except FileNotFoundError:
        pytest.skip("openssl is not installed")


@pytest.fixture(params=[False, pytest.param(True, marks=needs_ring)], ids=["transports", "ring"])
def with_ring(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def receive_head(client: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(1000)


def connect_over_tls(port: int, request: bytes = REQUEST) -> ssl.SSLSocket:
    """Connect, and read the response to a request."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=SECONDS))
    client.sendall(request)
    receive_head(client)
    return client


@contextlib.contextmanager
def recorded_problems(loop: asyncio.AbstractEventLoop) -> Iterator[list[Any]]:
    problems: list[Any] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    yield problems


@pytest.mark.parametrize("new_loop", NEW_LOOP.values(), ids=NEW_LOOP)
def test_a_client_that_closes_over_tls_costs_others_no_message(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    certificate: tuple[Path, Path],
    caplog: pytest.LogCaptureFixture,
    *,
    with_ring: bool,
) -> None:
    async def run() -> None:
        loop, app = asyncio.get_running_loop(), make_app()
        call = asyncio.to_thread
        files: Any = {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}
        ring = ring_for_small_rooms(loop) if with_ring else contextlib.nullcontext()
        with recorded_problems(loop) as problems, ring, contextlib.ExitStack() as stack:
            async with serve(app, ws=PushProtocol, log_config=None, **files) as served:
                *others, leaver = [
                    stack.enter_context(await call(connect_over_tls, served.port)) for _ in range(3)
                ]
                # NOTE: the client answers the close of TLS later.
                leaver.sendall(CLOSE)
                manager = app.ws_connection_manager
                await wait_until(lambda: len(manager) == len(others))
                await manager.broadcast_to_room("lobby", {"type": "hello"})
                for other in others:
                    assert b"hello" in await call(other.recv, 1000)
                leaver.close()
                # NOTE: without a close frame.
                await call(others[0].unwrap)
                await wait_until(lambda: len(manager) == 1)
                others[1].close()
            assert not problems

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


@pytest.mark.parametrize("new_loop", NEW_LOOP.values(), ids=NEW_LOOP)
@pytest.mark.parametrize("loss", ["close frame", "server's close", "no pong"])
def test_a_client_that_answers_nothing_over_tls_is_aborted(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    loss: str,
    certificate: tuple[Path, Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After ``close_seconds``, not after the 30 s of TLS, and nothing is written to it meanwhile."""

    async def run() -> None:
        app = make_app(limits=Limits(close_seconds=0.1))
        manager = app.ws_connection_manager
        files: Any = {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}
        pings = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.05} if loss == "no pong" else {}
        options: Any = {"http": BoundedHTTPProtocol, "ws": PushProtocol, **files, **pings}
        async with serve(app, log_config=None, **options) as served:
            client = await asyncio.to_thread(connect_over_tls, served.port)
            with client:
                if loss == "close frame":
                    client.sendall(CLOSE)
                elif loss == "server's close":
                    await manager.close_room("lobby", 4000)
                    client.sendall(CLOSE)
                await wait_until(lambda: not len(manager))
                for _ in range(10):
                    await manager.broadcast_to_room("lobby", {"type": "hello"})
                    await asyncio.sleep(0)
                await wait_until(lambda: not served.server.server_state.connections)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
    # asyncio warns of writes to a connection that has ended.
    assert not [each for each in caplog.records if each.name == "asyncio"]
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_client_that_half_closes_and_does_not_read_is_aborted() -> None:
    app = make_app(limits=Limits(close_seconds=0.1))
    manager = app.ws_connection_manager
    async with serve(app, ws=PushProtocol) as served:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", served.port))
            client.sendall(REQUEST)
            await asyncio.to_thread(receive_head, client)
            await wait_until(lambda: len(manager) == 1)
            protocol: Any
            [protocol] = served.server.server_state.connections
            while not protocol.transport.get_write_buffer_size():
                await manager.broadcast_to_room("lobby", {"type": "hello", "text": "a" * 10_000})
                await asyncio.sleep(0.001)
            assert protocol.paused_by == 0
            client.shutdown(socket.SHUT_WR)
            await wait_until(lambda: not len(manager))
            await wait_until(lambda: not served.server.server_state.connections)


async def test_a_connection_with_tls_that_is_closed_twice_is_still_checked(
    certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """By its deadline, and by a shutdown, before the client has answered the end of TLS."""
    app = install(falcon.asgi.App(), server_limits=ServerLimits(keep_alive_seconds=0.01))
    files: Any = {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with serve(app, http=BoundedHTTPProtocol, log_config=None, **files) as served:
        client = await asyncio.to_thread(connect_over_tls, served.port, request)
        with client:
            connection: Any
            [connection] = served.server.server_state.connections
            await wait_until(connection.transport.is_closing)
            connection.shutdown()
            sweep = SWEEPS.of(asyncio.get_running_loop())
            assert sweep.connections == {connection}
            sweep._run()
            assert sweep.connections == {connection}
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


class GoneBeforeTheCall:
    """Calls an application after the client has reset its connection.

    Attributes:
        client: The client of the next connection.
        calls: The number of calls that have ended.
    """

    client: socket.socket
    server: Any

    def __init__(self, app: Any) -> None:
        self.app = app
        self.calls = 0

    def has_ended(self, calls: int) -> bool:
        return self.calls == calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
        await wait_until(lambda: not self.server.server_state.connections)
        await self.app(scope, receive, send)
        self.calls += 1


@needs_ring
async def test_a_client_that_is_gone_before_the_call_leaves_no_note() -> None:
    app = GoneBeforeTheCall(make_app())
    loop = asyncio.get_running_loop()
    with ring_for_small_rooms(loop):
        async with serve(app, ws=PushProtocol) as served:
            app.server = served.server
            for number in range(1, 4):
                app.client = socket.create_connection(("127.0.0.1", served.port))
                app.client.sendall(REQUEST)
                await wait_until(partial(app.has_ended, number))
        assert not WRITE_BATCHES.of(loop).unsent
