"""Measurements without a load client: publishing, and clients that reconnect.

The process prints a line when it is ready, and responds to each order on its input with a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import redis.asyncio
import uvloop

from falcon_pachinko import WebSocketConnectionManager
from falcon_pachinko.backends import backend_from_url

from .child import python, start
from .drain import drain
from .listeners import WAIT_SECONDS, Listener, connect, post, read_lines, wait_until
from .live import compare, live_traffic
from .plan import RECENT_ROOMS, Order, Outcome
from .valkey import URL_VARIABLE, Valkey, running_valkey
from .visits import visits

# Broadcasts of one loop iteration, each to a different room.
AT_ONCE = 32
TEXT = "x" * 80

RECONNECTING = 1_000
MISSED = 100
Measure = Callable[[Order], Awaitable[Outcome]]


@contextlib.asynccontextmanager
async def joined(valkey: Valkey) -> AsyncIterator[Measure]:
    """Publish with the manager, where the broadcasts of a loop iteration share a round trip."""
    backend = backend_from_url(valkey.url)
    manager = WebSocketConnectionManager(backend)
    await backend.start()
    # NOTE: the rooms exist, without subscribers.
    rooms = [f"room{number}" for number in range(AT_ONCE)]
    other = backend_from_url(valkey.url)
    WebSocketConnectionManager(other)
    await other.start()
    for room in rooms:
        await other.subscribe(room, None)
    await other.stop()
    message = {"type": "said", "payload": {"text": TEXT}}

    async def publish(count: int) -> None:
        for _ in range(count // AT_ONCE):
            await asyncio.gather(*[manager.broadcast_to_room(room, message) for room in rooms])

    try:
        yield lambda order: publishing(order, publish)
    finally:
        await backend.stop()


@contextlib.asynccontextmanager
async def awaited(valkey: Valkey) -> AsyncIterator[Measure]:
    """The reference: PUBLISH with redis-py, each one awaited."""
    client = redis.asyncio.Redis.from_url(valkey.url)
    message = json.dumps({"type": "said", "payload": {"text": TEXT}})

    async def publish(count: int) -> None:
        for number in range(count):
            await client.publish(f"room{number % AT_ONCE}", message)

    try:
        yield lambda order: publishing(order, publish)
    finally:
        await client.aclose()


async def publishing(order: Order, publish: Callable[[int], Awaitable[None]]) -> Outcome:
    """Measure the CPU time of this process per message."""
    published, started, own = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < order.seconds:
        await publish(AT_ONCE * 8)
        published += AT_ONCE * 8
    own, seconds = time.process_time() - own, time.perf_counter() - started
    return {"cpu_us": own / published * 1e6, "messages_per_second": published / seconds}


@contextlib.asynccontextmanager
async def recovery(valkey: Valkey) -> AsyncIterator[Measure]:
    """Reconnect a thousand clients with a hundred missed messages each, during live traffic."""
    command = python("-m", "bench.asgi", "bench.servers.ours:app", "--push")
    environment = os.environ | {URL_VARIABLE: valkey.url}
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(start("the node", command, Path(), environment))
        port = int(node.read_line(WAIT_SECONDS))
        p99_ms = stack.enter_context(live_traffic(port, environment))
        rounds = 0

        async def measure(order: Order) -> Outcome:
            nonlocal rounds
            rounds += 1
            path = f"/kept/room{rounds}"
            sender = await connect(port, path, Listener())
            await sender.positioned
            for number in range(MISSED):
                post(sender, str(number))
            await wait_until(lambda: len(sender.frames) == MISSED)
            await p99_ms()
            await asyncio.sleep(order.seconds)
            before_ms = await p99_ms()
            started = time.perf_counter()
            returning = f"{path}?since={sender.position['id']}"
            clients = await asyncio.gather(
                *[connect(port, returning, Listener()) for _ in range(RECONNECTING)]
            )
            async with asyncio.timeout(WAIT_SECONDS):
                for client in clients:
                    await client.positioned
            seconds = time.perf_counter() - started
            during_ms = await p99_ms()
            complete = sum(
                client.position["payload"]["recovered"] and client.frames == sender.frames
                for client in clients
            )
            for client in (*clients, sender):
                client.transport.disconnect(False)
            return compare(before_ms, during_ms, complete, RECONNECTING, seconds)

        yield measure


TRIALS: dict[str, Callable[[Valkey], AbstractAsyncContextManager[Measure]]] = {
    "joined": joined,
    "awaited": awaited,
    "recovery": recovery,
    "drain": drain,
    "visits": functools.partial(visits, room=lambda number: f"/rooms/room{number // 10}"),
    "visits-alone": functools.partial(visits, room=lambda number: f"/rooms/room{number}"),
    "visits-recent": functools.partial(
        visits, room=lambda number: f"/recent/recent{number // 10 % RECENT_ROOMS}"
    ),
}


async def run_trial(name: str) -> None:
    """Execute orders."""
    orders = await read_lines()
    with running_valkey() as valkey:
        async with TRIALS[name](valkey) as measure:
            print("{}", flush=True)
            while line := await orders.readline():
                print(json.dumps(await measure(Order(**json.loads(line)))), flush=True)


def main() -> None:
    """Run a trial with the highest limit of open files."""
    _, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    uvloop.run(run_trial(sys.argv[1]))


if __name__ == "__main__":
    main()
