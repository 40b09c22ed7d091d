"""A real uvicorn in the event loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Unpack

import uvicorn

from .client import Client
from .contract import FindDeclaration, declarations
from .errors import fail
from .handshake import Handshake, check_options, check_path, connect
from .running import SETTINGS, STEP_SECONDS, Running, sigterm_stops
from .tasks import wait_ended

HOST = "127.0.0.1"


class Server(uvicorn.Server):
    """uvicorn's, which says when it has begun, and leaves signals and the end of the process to the test."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            self.should_exit = True
        finally:
            self.begun.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Application:
    """The application, whose life can be ended where uvicorn does not end it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.life: asyncio.Task[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.life = asyncio.current_task()
        await self.app(scope, receive, send)

    async def end(self, timeout_seconds: float) -> None:
        """Cancel its life, where it has not ended."""
        if self.life is not None and not self.life.done():
            self.life.cancel()
            await asyncio.wait({self.life}, timeout=timeout_seconds)


@dataclass(frozen=True)
class Served(Running):
    """An application that is being served.

    Attributes:
        port: The port on 127.0.0.1.
        server: uvicorn's.
        declaration_at: Finds what the application may send at a path.
    """

    port: int
    server: uvicorn.Server
    declaration_at: FindDeclaration

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    def url(self, path: str = "/") -> str:
        """The address of a path for an HTTP client."""
        return f"{self.origin}{path}"

    def ws_url(self, path: str) -> str:
        """The address of a path for a WebSocket client; ``ValueError`` where it does not begin with "/"."""
        check_path(path)
        return f"ws://{HOST}:{self.port}{path}"

    def connect(
        self, path: str, **options: Unpack[Handshake]
    ) -> AbstractAsyncContextManager[Client]:
        check_options(options)
        return connect(self.ws_url(path), declaration=self.declaration_at(path), **options)

    def stop(self) -> None:
        self.server.should_exit = True


@asynccontextmanager
async def serve(
    app: Any,
    *,
    timeout_seconds: float = STEP_SECONDS,
    check_contract: bool = False,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve an ASGI application on a free port of 127.0.0.1; at the end the server stops in order.

    Args:
        app: The application.
        timeout_seconds: How long the server may take to start and to stop, each.
        check_contract: Whether a client fails with ``Undeclared`` that is sent what the resource does
            not declare.
        options: More options of ``uvicorn.Config``.

    Raises:
        RuntimeError: The application did not start, or it has asked its server to stop.
        TimeoutError: It took too long.
        Exception: What the server itself raised.
    """
    declaration_at = declarations(app if check_contract else None)
    config = uvicorn.Config(app, **{**SETTINGS, **options})
    config.load()
    config.loaded_app = application = Application(config.loaded_app)
    server = Server(config)
    with socket.create_server((HOST, 0)) as listener:
        served = Served(listener.getsockname()[1], server, declaration_at)
        with sigterm_stops(served.stop):
            task = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
            task.add_done_callback(lambda _: server.begun.set())
            failure: BaseException | None = None
            try:
                await wait_begun(server, timeout_seconds)
                yield served
            except BaseException as error:
                failure = error
                raise
            finally:
                served.stop()
                place = await wait_ended(task, timeout_seconds)
                await application.end(timeout_seconds)
                if place is not None:
                    story = f"the server did not stop within {timeout_seconds} s: {place}"
                    fail(TimeoutError(story), failure)
                elif not task.cancelled() and (crash := task.exception()) is not None:
                    fail(crash, failure)


async def wait_begun(server: Server, timeout_seconds: float) -> None:
    """Wait until a server accepts connections."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await server.begun.wait()
    except TimeoutError:
        raise TimeoutError(
            f"the application's startup was not done within {timeout_seconds} s"
        ) from None
    if not server.started:
        raise RuntimeError("the application's startup failed: the log says why")
