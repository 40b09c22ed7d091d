"""uvicorn with a real socket, in the event loop of the test."""

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
from .errors import raise_or_note
from .handshake import Handshake, check_options, check_path, connect
from .running import LIFESPAN_SECONDS, UVICORN_SETTINGS, Running, stop_on_sigterm
from .tasks import wait_ended

HOST = "127.0.0.1"


class Server(uvicorn.Server):
    """uvicorn's server, with an event after its startup and without signal handlers and exits."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.startup_done = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            self.should_exit = True
        finally:
            self.startup_done.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Application:
    """The application, with a lifespan task that can be cancelled, because uvicorn never does."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.lifespan_task: asyncio.Task[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.lifespan_task = asyncio.current_task()
        await self.app(scope, receive, send)

    async def cancel_lifespan(self, timeout_seconds: float) -> None:
        """Cancel the lifespan task unless it has ended."""
        if self.lifespan_task is not None and not self.lifespan_task.done():
            self.lifespan_task.cancel()
            await asyncio.wait({self.lifespan_task}, timeout=timeout_seconds)


@dataclass(frozen=True)
class Served(Running):
    """An application on a port.

    Attributes:
        port: The port on 127.0.0.1.
        server: uvicorn's server.
        declaration_at: Finds the declaration of a path.
    """

    port: int
    server: uvicorn.Server
    declaration_at: FindDeclaration

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    def url(self, path: str = "/") -> str:
        """Return the HTTP URL of a path."""
        return f"{self.origin}{path}"

    def ws_url(self, path: str) -> str:
        """Return the WebSocket URL of a path.

        Raises:
            ValueError: The path does not begin with "/".
        """
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
    timeout_seconds: float = LIFESPAN_SECONDS,
    check_contract: bool = False,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve an ASGI application on a free port of 127.0.0.1; the server shuts down at the end.

    Args:
        app: The application.
        timeout_seconds: The bound of the startup, and of the shutdown.
        check_contract: Whether an undeclared message fails the client that receives it with
            ``Undeclared``.
        options: Options of ``uvicorn.Config``.

    Raises:
        RuntimeError: The startup failed, or the application requested a shutdown.
        TimeoutError: The startup or the shutdown took too long.
        Exception: The server raised an exception.
    """
    declaration_at = declarations(app if check_contract else None)
    config = uvicorn.Config(app, **{**UVICORN_SETTINGS, **options})
    config.load()
    config.loaded_app = application = Application(config.loaded_app)
    server = Server(config)
    with socket.create_server((HOST, 0)) as listener:
        served = Served(listener.getsockname()[1], server, declaration_at)
        with stop_on_sigterm(served.stop):
            task = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
            task.add_done_callback(lambda _: server.startup_done.set())
            failure: BaseException | None = None
            try:
                await wait_started(server, timeout_seconds)
                yield served
            except BaseException as error:
                failure = error
                raise
            finally:
                served.stop()
                position = await wait_ended(task, timeout_seconds)
                await application.cancel_lifespan(timeout_seconds)
                if position is not None:
                    text = f"the server did not stop within {timeout_seconds} s: {position}"
                    raise_or_note(TimeoutError(text), failure)
                elif not task.cancelled() and (problem := task.exception()) is not None:
                    raise_or_note(problem, failure)


async def wait_started(server: Server, timeout_seconds: float) -> None:
    """Wait until a server accepts connections.

    Raises:
        RuntimeError: The startup of the application failed.
        TimeoutError: The startup took too long.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            await server.startup_done.wait()
    except TimeoutError:
        raise TimeoutError(
            f"the application's startup took longer than {timeout_seconds} s"
        ) from None
    if not server.started:
        raise RuntimeError("the application's startup failed: see the log")
