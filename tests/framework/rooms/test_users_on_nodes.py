"""The bound of a user's connections, over two nodes that share Redis or Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import falcon.asgi
import pytest
from websockets.exceptions import InvalidStatus

from falcon_pachinko import App, ServerLimits, WebSocketLike, WebSocketResource, install
from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.testing import Client, Closed, connect

from ..support.backends import TIMING, wait_until
from ..support.redis_servers import PROGRAMS, RedisServer, find_program, running_redis
from ..support.servers import Endpoint, serve_by_push

pytestmark = pytest.mark.redis

MAX = 4


class Room(WebSocketResource):
    """A room of the user of the path; "/alice/refused" is refused, "/alice/alone" joins no room."""

    async def on_connect(
        self,
        req: falcon.asgi.Request,
        ws: WebSocketLike,
        *args: Any,
        name: str,
        how: str,
        **params: Any,
    ) -> bool:
        self.connection.user = name
        if how != "alone":
            await self.join_room(f"room of {name}")
        if how == "fails":
            raise falcon.HTTPForbidden
        if how == "renamed":
            self.connection.user = "bob"
        await ws.send_media({"type": "welcome", "payload": {}})
        return how != "refused"


class Site:
    """Two applications that share Redis."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.stack = AsyncExitStack()
        self.apps: list[App] = []
        self.endpoints: list[Endpoint] = []

    async def start(self) -> None:
        """Start an application."""
        backend = backend_from_url(self.server.url, timing=TIMING)
        limits = ServerLimits(connections_per_user=MAX)
        app = install(falcon.asgi.App(), backend=backend, server_limits=limits)
        app.add_websocket_route("/{name}/{how}", Room)
        self.apps.append(app)
        self.endpoints.append(await self.stack.enter_async_context(serve_by_push(app)))

    async def join(self, node: int, path: str = "/alice/joins") -> Client | int:
        """Connect to a node; return the client after its welcome, or the code with which it was closed."""
        url = self.endpoints[node].ws_url(path)
        client = await self.stack.enter_async_context(connect(url))
        try:
            await client.receive_until("welcome")
        except Closed as closed:
            return closed.code
        return client

    def user_keys(self) -> list[str]:
        return self.server.keys("pachinko:{%user:*")


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if find_program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with running_redis(request.param) as server:
        yield server


@pytest.fixture
async def site(server: RedisServer) -> AsyncIterator[Site]:
    site = Site(server)
    async with site.stack:
        for _ in range(2):
            await site.start()
        yield site


@pytest.mark.parametrize("how", ["joins", "alone"])
async def test_one_connection_too_many_over_two_nodes_is_closed(site: Site, how: str) -> None:
    path = f"/alice/{how}"
    clients = [await site.join(number % 2, path) for number in range(MAX)]
    assert [await site.join(node, path) for node in (0, 1)] == [4429, 4429]
    assert isinstance(await site.join(0, "/bob/joins"), Client)
    [first, *_] = [client for client in clients if isinstance(client, Client)]
    await first.aclose()
    async with asyncio.timeout(5):
        while not isinstance(await site.join(1, path), Client):
            pass
    assert await site.join(0, path) == 4429
    assert [len(app.ws_connection_manager) for app in site.apps] == [2, 3]


async def test_concurrent_connections_do_not_exceed_the_bound(site: Site) -> None:
    results = await asyncio.gather(*(site.join(number % 2) for number in range(20)))
    codes = [result for result in results if not isinstance(result, Client)]
    assert codes == [4429] * (20 - MAX)


async def test_a_refused_or_failed_connection_gives_its_place_back(site: Site) -> None:
    for _ in range(MAX):
        for how in ("refused", "fails"):
            with pytest.raises(InvalidStatus, match="403"):
                await site.join(0, f"/alice/{how}")
    await wait_until(lambda: site.user_keys() == [])
    clients = [await site.join(number % 2) for number in range(MAX)]
    assert all(isinstance(client, Client) for client in clients)


async def test_a_connection_whose_user_changes_counts_for_the_last_one(site: Site) -> None:
    clients = [await site.join(number % 2, "/alice/renamed") for number in range(MAX)]
    assert all(isinstance(client, Client) for client in clients)
    assert await site.join(0, "/bob/joins") == 4429
    await wait_until(lambda: site.user_keys() == ["pachinko:{%user:bob}:c"])


async def test_nothing_remains_after_all_connections_have_ended(site: Site) -> None:
    clients = [await site.join(number % 2) for number in range(MAX + 2)]
    for client in clients:
        if isinstance(client, Client):
            await client.aclose()
    await wait_until(lambda: site.user_keys() == [])


async def test_without_redis_each_process_counts_its_own_connections(site: Site) -> None:
    for number in range(MAX):
        await site.join(number % 2, "/alice/alone")
    site.server.kill()
    manager = site.apps[0].ws_connection_manager
    await wait_until(lambda: manager._registry.backend.outage != "")
    for _ in range(2):
        assert isinstance(await site.join(0, "/alice/alone"), Client)
    assert await site.join(0, "/alice/alone") == 4429
    site.server.restart()
