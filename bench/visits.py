"""The cost of a client that joins a room and leaves it: CPU time of the node and of Valkey, above a bare handshake."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from picows import WSListener, WSTransport, ws_connect

from .child import python, start
from .measure import cpu_seconds
from .plan import Order, Outcome
from .valkey import URL_VARIABLE, Valkey

# Clients that arrive together, as after the restart of another node.
TOGETHER = 100
VISITS_PER_ROUND = 400
WAIT_SECONDS = 30
# The grace period of the server, with what follows it.
SETTLE_SECONDS = 0.4


class Visitor(WSListener):
    """A client that only connects."""

    transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport


async def visit(port: int, path: str) -> Visitor:
    """Connect a client."""
    visitor = Visitor()
    url = f"ws://127.0.0.1:{port}{path}"
    await ws_connect(lambda: visitor, url, websocket_handshake_timeout=WAIT_SECONDS)
    return visitor


@contextlib.asynccontextmanager
async def visits(
    valkey: Valkey, room: Callable[[int], str]
) -> AsyncIterator[Callable[[Order], Awaitable[Outcome]]]:
    """Let clients connect together and leave together: on a bare route, then in a room.

    Args:
        valkey: The Valkey of the node.
        room: Returns the path of a client's room.
    """
    command = python("-m", "bench.asgi", "bench.servers.visits:app", "--push")
    environment = os.environ | {URL_VARIABLE: valkey.url}
    with start("the node", command, Path(), environment) as node:
        port, numbers = int(node.read_line(WAIT_SECONDS)), itertools.count()

        async def cost_us(
            path: Callable[[int], str], count: int = VISITS_PER_ROUND
        ) -> tuple[float, float]:
            before = cpu_seconds(node.pid), cpu_seconds(valkey.pid)
            for _ in range(count // TOGETHER):
                paths = [path(next(numbers)) for _ in range(TOGETHER)]
                visitors = await asyncio.gather(*[visit(port, each) for each in paths])
                for visitor in visitors:
                    visitor.transport.disconnect(False)
            await asyncio.sleep(SETTLE_SECONDS)
            after = cpu_seconds(node.pid), cpu_seconds(valkey.pid)
            per_visit = [(b - a) / count * 1e6 for a, b in zip(before, after, strict=True)]
            return per_visit[0], per_visit[1]

        def bare_path(number: int) -> str:
            return "/bare"

        def room_path(number: int) -> str:
            return f"{room(number)}?user=user{number}"

        async def measure(order: Order) -> Outcome:
            bare = await cost_us(bare_path)
            full = await cost_us(room_path)
            return {
                "cpu_us": full[0] - bare[0],
                "redis_us": full[1] - bare[1],
                "bare_us": bare[0],
            }

        # The first ones of a process take longer.
        for path in (bare_path, room_path):
            await cost_us(path, TOGETHER)
        yield measure
