"""Fixtures for pytest, with pytest-asyncio in its mode ``auto``. In the top ``conftest.py`` write

    pytest_plugins = ["falcon_pachinko.testing.fixtures"]

and import the types of the fixtures only ``if TYPE_CHECKING``, because pytest must be the first to
import this module.

Applications and clients are closed at the end of the test in reverse order, also when it fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Unpack

import pytest

from .client import Client
from .handshake import Handshake
from .in_process import run
from .running import Running
from .serving import Served, serve

RunApp = Callable[..., Awaitable[Running]]
ServeApp = Callable[..., Awaitable[Served]]
OpenClient = Callable[..., Awaitable[Client]]


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """The exit stack of the other fixtures; a test may add its own contexts."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def check_contract() -> bool:
    """Whether ``run_app`` and ``serve_app`` check sent messages; override it to enable this."""
    return False


@pytest.fixture
def run_app(opened: AsyncExitStack, check_contract: bool) -> RunApp:
    """Run an application in-process: ``await run_app(app)``, with the options of ``run``."""

    def run_app(app: Any, **options: Any) -> Awaitable[Running]:
        return opened.enter_async_context(run(app, **{"check_contract": check_contract, **options}))

    return run_app


@pytest.fixture
def serve_app(opened: AsyncExitStack, check_contract: bool) -> ServeApp:
    """Serve an application on a port: ``await serve_app(app)``, with the options of ``serve``."""

    def serve_app(app: Any, **options: Any) -> Awaitable[Served]:
        return opened.enter_async_context(
            serve(app, **{"check_contract": check_contract, **options})
        )

    return serve_app


@pytest.fixture
def open_client(opened: AsyncExitStack) -> OpenClient:
    """Connect a client: ``await open_client(chat, "/chat")``, with the options of ``connect``."""

    def open_client(running: Running, path: str, **options: Unpack[Handshake]) -> Awaitable[Client]:
        return opened.enter_async_context(running.connect(path, **options))

    return open_client
