"""Connections and memberships leak no objects, however often they come and go."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import falcon.asgi
import pytest
import uvicorn

from falcon_pachinko import (
    App,
    Connection,
    Limits,
    ServerLimits,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.backends.memory import MemoryBackend
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.uvicorn import PushProtocol

from ..support.virtual_transport import PortableClient, PushClient, SteppedLoop, VirtualClient

pytestmark = pytest.mark.slow

HOPS = 100_000
HOPS_PER_MESSAGE = 1_000
VISITS = 10_000

# Far below one object per cycle. The interpreter counts allocated blocks as a whole, so their
# number varies a little.
MAY_GROW_OBJECTS = 50
MAY_GROW_BLOCKS = 1_000

BYE = 4001


class Hall(WebSocketResource):
    """A resource with clients that move from room to room."""

    limits = Limits(messages_per_second=math.inf)

    def __init__(self, visits: Iterator[int]) -> None:
        self.visit = next(visits)

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        assert isinstance(ws, Connection)
        ws.user = name
        await self.join_room("hall", join_message=name)
        await self.join_room(f"visit {self.visit}")
        return not name.startswith("unwelcome")

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        await self.broadcast_to_room(f"visit {self.visit}", "left")

    @handles_message("hop")
    async def hop(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        for number in range(HOPS_PER_MESSAGE):
            room = f"room {payload['number']}.{number}"
            await self.join_room(room)
            if number % 100 == 0:
                await self.broadcast_to_room(room, "here")
            await self.leave_room(room)

    @handles_message("leave")
    async def leave(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.close(BYE)


@dataclass
class Count:
    """A count of everything that could leak.

    Attributes:
        known: The numbers of tasks and of connections, and the rooms.
        kinds: The number of objects of each type.
        blocks: The number of memory blocks that the interpreter has allocated.
    """

    known: tuple[int, int, list[str]]
    kinds: Counter[type]
    blocks: int


class Site:
    """An application in this process, with clients on one of the two outbound paths."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.loop = SteppedLoop()
        self.app: App = install(
            falcon.asgi.App(),
            backend=MemoryBackend(Timing(grace_seconds=0)),
            # All clients have one address.
            server_limits=ServerLimits(handshakes_per_second=1e6, handshake_burst=1_000_000),
        )
        self.app.add_websocket_route("/{name}", Hall, iter(range(sys.maxsize)))
        self.manager = self.app.ws_connection_manager
        self.config = uvicorn.Config(
            self.app, ws=PushProtocol, ws_ping_interval=None, log_config=None, lifespan="off"
        )
        self.config.load()

    async def come(self, name: str) -> VirtualClient:
        """Connect a client, and wait for the handshake response."""
        client: VirtualClient
        if self.way == "push":
            client = PushClient(self.app, f"/{name}", lambda: None, config=self.config)
        else:
            client = PortableClient(self.app, f"/{name}", lambda: None)
        client.connect()
        await self.loop.run_until_idle()
        return client

    async def count(self) -> Count:
        """Count after all timers of closed connections have expired."""
        await asyncio.sleep(2 * Hall.limits.stall_seconds)
        gc.collect()
        rooms = await self.manager.get_rooms_by_prefix("")
        return Count(
            (len(asyncio.all_tasks()), len(self.manager), rooms),
            # NOTE: names instead of types would be new blocks, which the next count finds.
            Counter(map(type, gc.get_objects())),
            sys.getallocatedblocks(),
        )

    async def end(self) -> None:
        """Cancel the remaining tasks."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check(self, cycle: Callable[[int], Awaitable[None]], cycles: int) -> None:
        """Run a cycle repeatedly, and check that nothing has grown.

        A tenth as many cycles run first, for objects that are created on first use.
        """

        async def run() -> tuple[Count, Count]:
            for number in range(cycles // 10):
                await cycle(number)
            await self.count()
            before = await self.count()
            for number in range(cycles // 10, cycles + cycles // 10):
                await cycle(number)
            return before, await self.count()

        before, after = self.loop.run_until_complete(run())
        assert after.known == before.known
        grown = after.kinds - before.kinds
        assert sum(grown.values()) <= MAY_GROW_OBJECTS, grown.most_common(10)
        assert after.blocks - before.blocks <= MAY_GROW_BLOCKS


@pytest.fixture(autouse=True)
def nothing_is_logged() -> Iterator[None]:
    """Disable logging: pytest would keep each record."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=["portable", "push"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(request.param)
    try:
        yield site
    finally:
        site.loop.run_until_complete(site.end())
        site.loop.close()


def test_joining_and_leaving_rooms_leaks_nothing(site: Site) -> None:
    async def hop(number: int) -> None:
        client.send_texts(json.dumps({"type": "hop", "payload": {"number": number}}))
        await site.loop.run_until_idle()
        hops.update(client.received)
        client.received.clear()

    hops: Counter[str] = Counter()
    client = site.loop.run_until_complete(site.come("Alice"))
    site.check(hop, HOPS // HOPS_PER_MESSAGE)
    assert hops["here"] == 11 * HOPS // 1000


def test_connecting_and_disconnecting_leaks_nothing(site: Site) -> None:
    ends: list[tuple[str, Callable[[VirtualClient], object]]] = [
        ("Bob", lambda client: client.close(1000)),
        ("Bob", lambda client: client.vanish()),
        ("Bob", lambda client: client.send_texts('{"type": "leave"}')),
        ("Bob", lambda client: client.task.cancel()),
        ("unwelcome", lambda client: None),
    ]

    async def visit(number: int) -> None:
        name, end = ends[number % len(ends)]
        client = await site.come(name)
        end(client)
        await site.loop.run_until_idle()
        assert client.task.done()
        heard.update(host.received)
        host.received.clear()

    heard: Counter[str] = Counter()
    host = site.loop.run_until_complete(site.come("Alice"))
    site.check(visit, VISITS)
    assert heard["Bob"] == 11 * VISITS // 10 * 4 // 5
