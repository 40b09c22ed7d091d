"""The ASGI servers on which the contract is tested, each in the event loop of the test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import uvicorn
from granian.constants import Interfaces
from granian.server.embed import Server as GranianServer

from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import PushProtocol
from falcon_pachinko.uvicorn.protocol import PushSansIOProtocol

from .rings import AVAILABLE, ring_for_small_rooms

WAIT_SECONDS = 15.0


@dataclass
class Endpoint:
    """The address of a server.

    Attributes:
        port: The port on 127.0.0.1.
        stop: Stop the server in order; leaving the context does so, too.
    """

    port: int
    stop: Callable[[], None]

    def ws_url(self, path: str) -> str:
        """Return the WebSocket URL of a path."""
        return f"ws://127.0.0.1:{self.port}{path}"


def load_config(app: Any, **options: Any) -> uvicorn.Config:
    """Return loaded options of uvicorn for protocols without a server: no pings, and no proxy."""
    config = uvicorn.Config(
        app,
        ws_ping_interval=None,
        log_config=None,
        interface="asgi3",
        proxy_headers=False,
        lifespan="off",
        **options,
    )
    config.load()
    return config


@asynccontextmanager
async def serve_by_uvicorn(app: Any, **options: Any) -> AsyncIterator[Endpoint]:
    async with serve(app, **options) as served:

        def stop() -> None:
            served.server.should_exit = True

        yield Endpoint(served.port, stop)


class ParsingSansIOProtocol(PushSansIOProtocol):
    """The protocol without its readers of plain handshakes and of plain text frames."""

    accelerated = False


class ParsingProtocol(PushProtocol):
    """``PushProtocol``, whose handshakes and frames are all read by websockets' parser."""

    protocol_class = ParsingSansIOProtocol


def serve_by_push(app: Any, **options: Any) -> AbstractAsyncContextManager[Endpoint]:
    """Serve as projects do: a frame that is compressed would not be read by the accelerator."""
    options = {"ws": PushProtocol, "ws_per_message_deflate": False, **options}
    return serve_by_uvicorn(app, **options)


@asynccontextmanager
async def serve_by_ring(app: Any, **options: Any) -> AsyncIterator[Endpoint]:
    """Serve with the protocol, and write to all rooms through io_uring."""
    with ring_for_small_rooms(asyncio.get_running_loop()):
        async with serve_by_push(app, **options) as endpoint:
            yield endpoint


def serve_by_parsing_push(app: Any, **options: Any) -> AbstractAsyncContextManager[Endpoint]:
    """Serve with the protocol that parses all frames, those that are compressed too."""
    return serve_by_uvicorn(app, ws=ParsingProtocol, **options)


@asynccontextmanager
async def serve_by_hypercorn(app: Any) -> AsyncIterator[Endpoint]:
    stopping = asyncio.Event()
    config = hypercorn.config.Config()
    config.loglevel = "WARNING"
    config.graceful_timeout = 5.0
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config.bind = [f"fd://{listener.detach()}"]  # it closes the socket
    serving = hypercorn.asyncio.serve(app, config, shutdown_trigger=stopping.wait)
    async with running(serving, stopping.set):
        yield Endpoint(port, stopping.set)


@asynccontextmanager
async def serve_by_granian(app: Any) -> AsyncIterator[Endpoint]:
    port = free_port()
    server = GranianServer(app, port=port, interface=Interfaces.ASGI, log_enabled=False)
    async with running(server.serve(), server.stop):
        await wait_listening(port)
        yield Endpoint(port, server.stop)


SERVERS: dict[str, Callable[..., AbstractAsyncContextManager[Endpoint]]] = {
    "push": serve_by_push,
    "uvicorn": serve_by_uvicorn,
    "hypercorn": serve_by_hypercorn,
    "granian": serve_by_granian,
}
if AVAILABLE:
    SERVERS["push by io_uring"] = serve_by_ring
# For the tests of what servers receive.
RECEIVING_SERVERS = {**SERVERS, "push by parser": serve_by_parsing_push}


@asynccontextmanager
async def running(serving: Awaitable[None], stop: Callable[[], None]) -> AsyncIterator[None]:
    """Run a server; at the end stop it and wait until it has ended."""
    task = asyncio.ensure_future(serving)
    try:
        yield
    finally:
        stop()
        async with asyncio.timeout(WAIT_SECONDS):
            await task


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_listening(port: int) -> None:
    """Wait until a server listens on a port."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
