"""A real uvicorn in the event loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Served:
    """An application that is being served.

    Attributes:
        port: The port on 127.0.0.1.
        server: To stop it in the middle of a test, set ``server.should_exit``.
    """

    port: int
    server: uvicorn.Server

    def url(self, path: str = "/") -> str:
        """The address of a path for an HTTP client."""
        return f"http://127.0.0.1:{self.port}{path}"

    def ws_url(self, path: str) -> str:
        """The address of a path for a WebSocket client."""
        return f"ws://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def serve(app: Any, **options: Any) -> AsyncIterator[Served]:
    """Serve an ASGI application on a free port of 127.0.0.1; at the end the server stops in order.

    Args:
        app: The application.
        options: More options of ``uvicorn.Config``.

    Raises:
        TimeoutError: The server did not stop within 15 seconds.
    """
    settings: dict[str, Any] = {
        "lifespan": "on",
        "log_level": "warning",
        "timeout_graceful_shutdown": 5,
        "ws": "websockets-sansio",
        **options,
    }
    # NOTE: clients may connect before the server has begun: they wait in the socket's queue.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, **settings))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Served(listener.getsockname()[1], server)
        finally:
            server.should_exit = True
            async with asyncio.timeout(STOP_SECONDS):
                await task
