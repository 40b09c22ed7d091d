"""Measurements without a load client: publishing, and many reconnecting clients.

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
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import redis.asyncio
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from falcon_pachinko import WebSocketConnectionManager
from falcon_pachinko.backends import backend_from_url

from .child import python, start
from .plan import RECENT_ROOMS, Order, Outcome
from .valkey import URL_VARIABLE, Valkey, running_valkey
from .visits import visits

# Broadcasts of one loop iteration, each to a different room.
AT_ONCE = 32
TEXT = "x" * 80

RECONNECTING = 1_000
MISSED = 100
LIVE_MEMBERS, LIVE_PER_SECOND = 50, 50
WAIT_SECONDS = 30

L = TypeVar("L", bound="Listener")
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


class Listener(WSListener):
    """A connection to a room with history, which keeps its messages."""

    transport: WSTransport

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.position: dict[str, Any] = {}
        self.positioned = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        if data.startswith(b'{"type":"serverPosition"'):
            if self.positioned.done():
                return  # a heartbeat
            self.position = json.loads(data)
            self.positioned.set_result(None)
        else:
            self.frames.append(data)


class TimedListener(Listener):
    """A connection that records the delay of each message."""

    def __init__(self, delays: array[float]) -> None:
        super().__init__()
        self.delays = delays

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        message = json.loads(frame.get_payload_as_bytes())
        if message["type"] == "said":
            self.delays.append(time.perf_counter() - float(message["payload"]["text"]))


async def send_live(port: int) -> None:
    """Send live traffic; respond to each line of input with the p99 since the last one."""
    delays = array("d")
    members = [
        await connect(port, "/kept/live", TimedListener(delays)) for _ in range(LIVE_MEMBERS)
    ]
    lines = await read_lines()
    next_line = asyncio.ensure_future(lines.readline())
    print("{}", flush=True)
    while True:
        post(members[0], str(time.perf_counter()))
        done, _ = await asyncio.wait({next_line}, timeout=1 / LIVE_PER_SECOND)
        if done:
            if not next_line.result():
                return
            print(json.dumps(1_000 * sorted(delays)[len(delays) * 99 // 100]), flush=True)
            del delays[:]
            next_line = asyncio.ensure_future(lines.readline())


@contextlib.asynccontextmanager
async def recovery(valkey: Valkey) -> AsyncIterator[Measure]:
    """Reconnect a thousand clients with a hundred missed messages each, during live traffic."""
    command = python("-m", "bench.asgi", "bench.servers.ours:app", "--push")
    environment = os.environ | {URL_VARIABLE: valkey.url}
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(start("the node", command, Path(), environment))
        port = int(node.read_line(WAIT_SECONDS))
        command = python("-m", "bench.trial", "live", str(port))
        traffic = stack.enter_context(start("the live traffic", command, Path(), environment))
        traffic.read_line(WAIT_SECONDS)
        rounds = 0

        async def p99_ms() -> float:
            traffic.write_line("")
            return float(await asyncio.to_thread(traffic.read_line, WAIT_SECONDS))

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
            return {
                "p99_alone_ms": before_ms,
                "p99_ms": during_ms,
                "p99_ratio": during_ms / before_ms,
                "complete": complete / RECONNECTING,
                "incomplete": float(RECONNECTING - complete),
                "seconds": seconds,
            }

        yield measure


async def connect(port: int, path: str, listener: L) -> L:
    """Connect to a room."""
    url = f"ws://127.0.0.1:{port}{path}"
    await ws_connect(lambda: listener, url, websocket_handshake_timeout=WAIT_SECONDS)
    return listener


def post(listener: Listener, text: str) -> None:
    """Post a message."""
    message = json.dumps({"type": "post", "payload": {"text": text}})
    listener.transport.send(WSMsgType.TEXT, message.encode())


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.005)


async def read_lines() -> asyncio.StreamReader:
    """Return a reader of the standard input."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    return lines


TRIALS: dict[str, Callable[[Valkey], AbstractAsyncContextManager[Measure]]] = {
    "joined": joined,
    "awaited": awaited,
    "recovery": recovery,
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
    name, *rest = sys.argv[1:]
    uvloop.run(send_live(int(rest[0])) if name == "live" else run_trial(name))


if __name__ == "__main__":
    main()
