"""The budget of all buffers of a process: the largest outbox is closed, the largest inbox is paused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    Limits,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    install,
)
from falcon_pachinko.connection.budget import BufferBudget
from falcon_pachinko.connection.connection import Connection
from falcon_pachinko.connection.inbox import Inbox

from ..support.servers import SERVERS, Endpoint
from ..support.stranger import HANDSHAKE, Stranger, stranger

WAIT_SECONDS = 15.0
BUDGET_BYTES = 4 * 1024 * 1024


class Room(WebSocketResource):
    limits = Limits(outbox_bytes=3 * 1024 * 1024)

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike, **params: Any) -> bool:
        self.connection.user = req.get_param("user")
        return True

    @handles_binary
    async def wait(self, ws: WebSocketLike, data: bytes) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App(), server_limits=ServerLimits(buffer_bytes=BUDGET_BYTES))
    app.add_websocket_route("/room", Room)
    return app


@pytest.fixture(params=["push", "uvicorn"])
async def served(request: pytest.FixtureRequest, app: App) -> AsyncIterator[Endpoint]:
    asyncio.get_running_loop().set_debug(False)
    async with SERVERS[request.param](app) as served:
        yield served


async def stalled(stack: AsyncExitStack, served: Endpoint, user: str) -> Stranger:
    """Connect a client that does not read."""
    handshake = HANDSHAKE.replace(b"/room", b"/room?user=" + user.encode())
    client = await stack.enter_async_context(stranger(served, handshake))
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    return client


async def until(condition: Callable[[], bool]) -> None:
    """Run the loop until the condition holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 (the condition sets no event)
            await asyncio.sleep(0.001)


def connection_of(app: App, user: str) -> Connection:
    return app.ws_connection_manager._registry.users.connections_of(user)[0]


async def fill(app: App, user: str, size_bytes: int) -> None:
    """Send messages to a client until as much is pending for it."""
    connection = connection_of(app, user)
    async with asyncio.timeout(WAIT_SECONDS):
        while connection._outbox.size_bytes < size_bytes:
            await app.ws_connection_manager.send_to_user(user, "x" * 60_000)
            await asyncio.sleep(0)


async def test_the_largest_outboxes_are_closed_until_the_rest_fits(
    app: App, served: Endpoint
) -> None:
    async with AsyncExitStack() as stack:
        for user in ("small", "large", "middle"):
            await stalled(stack, served, user)
        connections = {user: connection_of(app, user) for user in ("small", "large", "middle")}
        await fill(app, "small", 1_000_000)
        await fill(app, "middle", 1_500_000)
        assert not any(connection.closed for connection in connections.values())
        await fill(app, "large", 2_500_000)
        await until(lambda: connections["large"].closed)
        assert connections["large"].close_code == 4008
        assert not connections["small"].closed
        assert not connections["middle"].closed


def holds(inbox: Inbox, size_bytes: int) -> bool:
    return inbox.size_bytes >= size_bytes


def message_of(size_bytes: int) -> bytes:
    """Return the frame of a client's binary message."""
    return b"\x82\xfe" + size_bytes.to_bytes(2, "big") + bytes(4) + bytes(size_bytes)


async def test_the_largest_inboxes_are_paused_first(app: App) -> None:
    asyncio.get_running_loop().set_debug(False)
    async with SERVERS["push"](app) as served, AsyncExitStack() as stack:
        clients = {user: await stalled(stack, served, user) for user in ("small", "large")}
        registry = app.ws_connection_manager._registry
        for user, count in (("small", 1), ("large", 3)):
            await clients[user].send(message_of(60_000) * (count + 1))
            inbox = connection_of(app, user)._inbox
            await until(partial(holds, inbox, count * 60_000))
        large, small = (connection_of(app, user) for user in ("large", "small"))
        budget = BufferBudget(200_000, registry.connections)
        budget.check((small, large))
        assert budget.paused == {large}
        assert not large.closed
        budget.limit_bytes = 100_000
        budget.check((small, large))
        assert budget.paused == {large, small}, "each check pauses further ones"
        small._inbox.resume()
        budget.paused.discard(small)
        await clients["large"].send(message_of(60_000))
        await clients["small"].send(message_of(10_000))
        await until(lambda: small._inbox.size_bytes >= 70_000)
        assert large._inbox.size_bytes == 180_000
        budget.limit_bytes = 400_000
        budget.check((small, large))
        assert not budget.paused
        await until(lambda: large._inbox.size_bytes >= 240_000)


async def test_the_check_ends_with_the_last_connection(app: App, served: Endpoint) -> None:
    budget = app.ws_connection_manager._registry.budget
    async with AsyncExitStack() as stack:
        client = await stalled(stack, served, "alice")
        assert budget.timer is not None
        client.reset()
    await until(lambda: budget.timer is None)
