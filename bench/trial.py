"""What is measured without a load client: publishing, and many who come back at once.

A process of its own: it prints a line when it is ready, and answers each order that it reads with a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable

import redis.asyncio
import uvloop
from falcon_pachinko import WebSocketConnectionManager
from falcon_pachinko.backends import backend_from_url
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .child import python
from .engine import URL_VARIABLE, Engine, running
from .plan import Order, Outcome

# Broadcasts of one turn of the event loop, each to a room of its own.
AT_ONCE = 32
TEXT = "x" * 80

COMING_BACK = 1_000
MISSED = 100
LIVE_MEMBERS, LIVE_PER_SECOND = 50, 50
WAIT_SECONDS = 30

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
        await other.open_room(room, None)
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
    """A connection to a room with history."""

    transport: WSTransport

    def __init__(self, delays: array[float] | None = None) -> None:
        self.delays = delays
        self.offsets: list[int] = []
        self.placed = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        message = json.loads(frame.get_payload_as_bytes())
        if message["type"] == "serverPosition":
            self.placed.set_result((message["id"], message["payload"].get("recovered")))
            return
        self.offsets.append(int(message["id"].partition(":")[2]))
        if self.delays is not None:
            self.delays.append(time.perf_counter() - float(message["payload"]["text"]))


@contextlib.asynccontextmanager
async def recovery(engine: Engine) -> AsyncIterator[Measure]:
    """A thousand who missed a hundred messages come back at once; others go on talking."""
    node = subprocess.Popen(
        python("-m", "bench.asgi", "bench.servers.ours:app", "--push"),
        env=os.environ | {URL_VARIABLE: engine.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert node.stdout is not None
        port = int(node.stdout.readline())
        delays = array("d")
        live = [await connect(port, "/kept/live", Listener(delays)) for _ in range(LIVE_MEMBERS)]

        async def talk(until: asyncio.Event) -> None:
            while not until.is_set():
                say(live[0], str(time.perf_counter()))
                await asyncio.sleep(1 / LIVE_PER_SECOND)

        async def p99_ms(during: Callable[[], Awaitable[None]]) -> float:
            del delays[:]
            over = asyncio.Event()
            talking = asyncio.create_task(talk(over))
            await during()
            over.set()
            await talking
            return 1_000 * sorted(delays)[len(delays) * 99 // 100]

        rounds = 0

        async def measure(order: Order) -> Outcome:
            nonlocal rounds
            rounds += 1
            path = f"/kept/room{rounds}"
            speaker = await connect(port, path, Listener())
            since, _ = await speaker.placed
            for number in range(MISSED):
                say(speaker, str(number))
            await until(lambda: len(speaker.offsets) == MISSED)
            whole = 0

            async def come_back() -> None:
                nonlocal whole
                back = [
                    connect(port, f"{path}?since={since}", Listener()) for _ in range(COMING_BACK)
                ]
                for client in await asyncio.gather(*back):
                    _, recovered = await asyncio.wait_for(client.placed, WAIT_SECONDS)
                    whole += bool(recovered and client.offsets == speaker.offsets)
                    client.transport.disconnect(False)

            before_ms = await p99_ms(lambda: asyncio.sleep(order.seconds))
            started = time.perf_counter()
            during_ms = await p99_ms(come_back)
            seconds = time.perf_counter() - started
            speaker.transport.disconnect(False)
            return {
                "p99_alone_ms": before_ms,
                "p99_ms": during_ms,
                "p99_ratio": during_ms / before_ms,
                "whole": whole / COMING_BACK,
                "seconds": seconds,
            }

        yield measure
    finally:
        node.kill()
        node.wait()


async def connect(port: int, path: str, listener: Listener) -> Listener:
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
        while not condition():
            await asyncio.sleep(0.005)


TRIALS = {"joined": joined, "awaited": awaited, "recovery": recovery}


async def follow(name: str) -> None:
    """Carry out orders."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    with running() as engine:
        async with TRIALS[name](engine) as measure:
            print("{}", flush=True)
            while line := await orders.readline():
                print(json.dumps(await measure(Order(**json.loads(line)))), flush=True)


def main() -> None:
    """Let as many connect as the operating system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(follow(sys.argv[1]))


if __name__ == "__main__":
    main()
