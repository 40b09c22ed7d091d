"""What is measured without a load client: publishing, and many who come back at once.

A process of its own: it prints a line when it is ready, and answers each order that it reads with a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import redis.asyncio
import uvloop
from falcon_pachinko import WebSocketConnectionManager
from falcon_pachinko.backends import backend_from_url
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .child import python, start
from .engine import URL_VARIABLE, Engine, running
from .plan import Order, Outcome

# Broadcasts of one turn of the event loop, each to a room of its own.
AT_ONCE = 32
TEXT = "x" * 80

COMING_BACK = 1_000
MISSED = 100
LIVE_MEMBERS, LIVE_PER_SECOND = 50, 50
WAIT_SECONDS = 30

L = TypeVar("L", bound="Listener")
Measure = Callable[[Order], Awaitable[Outcome]]


@contextlib.asynccontextmanager
async def joined(engine: Engine) -> AsyncIterator[Measure]:
    """Publishing by our manager, where all of one turn share a round trip."""
    backend = backend_from_url(engine.url)
    manager = WebSocketConnectionManager(backend)
    await backend.start()
    # NOTE: nobody listens, but the rooms are there.
    rooms = [f"room{number}" for number in range(AT_ONCE)]
    other = backend_from_url(engine.url)
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
async def awaited(engine: Engine) -> AsyncIterator[Measure]:
    """The reference: redis-py's PUBLISH, awaited one after the other."""
    client = redis.asyncio.Redis.from_url(engine.url)
    message = json.dumps({"type": "said", "payload": {"text": TEXT}})

    async def publish(count: int) -> None:
        for number in range(count):
            await client.publish(f"room{number % AT_ONCE}", message)

    try:
        yield lambda order: publishing(order, publish)
    finally:
        await client.aclose()


async def publishing(order: Order, publish: Callable[[int], Awaitable[None]]) -> Outcome:
    """CPU time of this process for each message."""
    said, started, own = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < order.seconds:
        await publish(AT_ONCE * 8)
        said += AT_ONCE * 8
    own, seconds = time.process_time() - own, time.perf_counter() - started
    return {"cpu_us": own / said * 1e6, "messages_per_second": said / seconds}


class Listener(WSListener):
    """A connection to a room with history, which counts the bytes that mean something."""

    transport: WSTransport

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.position: dict[str, Any] = {}
        self.placed = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        if data.startswith(b'{"type":"serverPosition"'):
            self.position = json.loads(data)
            self.placed.set_result(None)
        else:
            self.frames.append(data)


class Talker(Listener):
    """A connection that takes note of how long what is said takes."""

    def __init__(self, delays: array[float]) -> None:
        super().__init__()
        self.delays = delays

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        message = json.loads(frame.get_payload_as_bytes())
        if message["type"] == "said":
            self.delays.append(time.perf_counter() - float(message["payload"]["text"]))


async def talk(port: int) -> None:
    """Live traffic, in a process of its own: on each line that is read it tells the p99 since the last one."""
    delays = array("d")
    members = [await connect(port, "/kept/live", Talker(delays)) for _ in range(LIVE_MEMBERS)]
    lines = await read_lines()
    next_line = asyncio.ensure_future(lines.readline())
    print("{}", flush=True)
    while True:
        say(members[0], str(time.perf_counter()))
        done, _ = await asyncio.wait({next_line}, timeout=1 / LIVE_PER_SECOND)
        if done:
            if not next_line.result():
                return
            print(json.dumps(1_000 * sorted(delays)[len(delays) * 99 // 100]), flush=True)
            del delays[:]
            next_line = asyncio.ensure_future(lines.readline())


@contextlib.asynccontextmanager
async def recovery(engine: Engine) -> AsyncIterator[Measure]:
    """A thousand who missed a hundred messages come back at once; others go on talking."""
    command = python("-m", "bench.asgi", "bench.servers.ours:app", "--push")
    environment = os.environ | {URL_VARIABLE: engine.url}
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(start("the node", command, Path(), environment))
        port = int(node.listen(WAIT_SECONDS))
        command = python("-m", "bench.trial", "talk", str(port))
        talker = stack.enter_context(start("the talker", command, Path(), environment))
        talker.listen(WAIT_SECONDS)
        rounds = 0

        async def p99_ms() -> float:
            talker.tell("")
            return float(await asyncio.to_thread(talker.listen, WAIT_SECONDS))

        async def measure(order: Order) -> Outcome:
            nonlocal rounds
            rounds += 1
            path = f"/kept/room{rounds}"
            speaker = await connect(port, path, Listener())
            await speaker.placed
            for number in range(MISSED):
                say(speaker, str(number))
            await until(lambda: len(speaker.frames) == MISSED)
            await p99_ms()
            await asyncio.sleep(order.seconds)
            before_ms = await p99_ms()
            started = time.perf_counter()
            back = f"{path}?since={speaker.position['id']}"
            clients = await asyncio.gather(
                *[connect(port, back, Listener()) for _ in range(COMING_BACK)]
            )
            async with asyncio.timeout(WAIT_SECONDS):
                for client in clients:
                    await client.placed
            seconds = time.perf_counter() - started
            during_ms = await p99_ms()
            whole = sum(
                client.position["payload"]["recovered"] and client.frames == speaker.frames
                for client in clients
            )
            for client in (*clients, speaker):
                client.transport.disconnect(False)
            return {
                "p99_alone_ms": before_ms,
                "p99_ms": during_ms,
                "p99_ratio": during_ms / before_ms,
                "whole": whole / COMING_BACK,
                "incomplete": float(COMING_BACK - whole),
                "seconds": seconds,
            }

        yield measure


async def connect(port: int, path: str, listener: L) -> L:
    """Connect to a room."""
    url = f"ws://127.0.0.1:{port}{path}"
    await ws_connect(lambda: listener, url, websocket_handshake_timeout=WAIT_SECONDS)
    return listener


def say(listener: Listener, text: str) -> None:
    """Say something."""
    message = json.dumps({"type": "post", "payload": {"text": text}})
    listener.transport.send(WSMsgType.TEXT, message.encode())


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


async def read_lines() -> asyncio.StreamReader:
    """What is read from the standard input."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    return lines


TRIALS = {"joined": joined, "awaited": awaited, "recovery": recovery}


async def follow(name: str) -> None:
    """Carry out orders."""
    orders = await read_lines()
    with running() as engine:
        async with TRIALS[name](engine) as measure:
            print("{}", flush=True)
            while line := await orders.readline():
                print(json.dumps(await measure(Order(**json.loads(line)))), flush=True)


def main() -> None:
    """Let as many connect as the operating system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    name, *rest = sys.argv[1:]
    uvloop.run(talk(int(rest[0])) if name == "talk" else follow(name))


if __name__ == "__main__":
    main()
