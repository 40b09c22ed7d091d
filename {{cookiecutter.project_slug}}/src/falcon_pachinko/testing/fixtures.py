"""Fixtures for pytest with pytest-asyncio in its mode ``auto``; in the top ``conftest.py`` write

    pytest_plugins = ["falcon_pachinko.testing.fixtures"]

and import the types of the fixtures there, if at all, ``if TYPE_CHECKING`` only: pytest wants to be the
first to import this module.

Everything that they have opened is closed at the end of the test, the latest first, also when the
test has failed.
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
    """What the other fixtures have opened; whatever else is put into it is closed in its turn."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def check_contract() -> bool:
    """Whether ``run_app`` and ``serve_app`` check what is sent; override it in ``conftest.py`` to switch it on."""
    return False


@pytest.fixture
def run_app(opened: AsyncExitStack, check_contract: bool) -> RunApp:
    """Runs an application in this process: ``chat = await run_app(app)``; options as of ``run``."""

    def run_app(app: Any, **options: Any) -> Awaitable[Running]:
        return opened.enter_async_context(run(app, **{"check_contract": check_contract, **options}))

    return run_app


@pytest.fixture
def serve_app(opened: AsyncExitStack, check_contract: bool) -> ServeApp:
    """Serves an application on a free port: ``chat = await serve_app(app)``; options as of ``serve``."""

    def serve_app(app: Any, **options: Any) -> Awaitable[Served]:
        return opened.enter_async_context(
            serve(app, **{"check_contract": check_contract, **options})
        )

    return serve_app


@pytest.fixture
def open_client(opened: AsyncExitStack) -> OpenClient:
    """Connects a client: ``alice = await open_client(chat, "/ws/chat/general")``; options as of ``connect``."""

    def open_client(running: Running, path: str, **options: Unpack[Handshake]) -> Awaitable[Client]:
        return opened.enter_async_context(running.connect(path, **options))

    return open_client
