"""Soak test: many clients connect, publish, misbehave and leave for minutes; afterwards nothing may have grown.

python -m tests.framework.stress.soak --minutes 10
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Any

from websockets.exceptions import ConnectionClosed, InvalidStatus

import falcon_pachinko
from falcon_pachinko.testing import Client, connect

from .handshake_fuzz import fuzz_for

PROGRAM = Path(__file__).with_name("soak_program.py")
SOURCE = Path(falcon_pachinko.__file__).parent.parent
CLIENTS = 60
# All clients have one address, so the bound of a service is too low.
HANDSHAKES_PER_SECOND = 10_000
WAIT_SECONDS = 20.0
# Allowed after the first quarter of the time: the memory of the allocator varies, but a leak keeps growing.
GROWTH_BYTES = 8 * 1024 * 1024
GROWTH_OBJECTS = 2000
# Longer than the program's limits for a stalled handler and a stalled close together.
STALL_SECONDS = 2.0
SLOW_SHARE = 0.1
# The comparison of handshakes takes this share of the time in addition.
FUZZ_SHARE = 0.1

Statistics = dict[str, int]


class ServerProcess:
    """A server process and its log."""

    def __init__(self, protocol: str, log: IO[bytes]) -> None:
        self.protocol = protocol
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(PROGRAM), protocol, str(HANDSHAKES_PER_SECOND)],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def statistics(self) -> Statistics:
        """Return the statistics of the process."""
        url = f"http://127.0.0.1:{self.port}/statistics"
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
            found: Statistics = json.load(answer)
        return found

    def wait_empty(self, fresh: Statistics) -> Statistics:
        """Return the statistics once all clients have left, or after 20 s."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            statistics = self.statistics()
            empty = not statistics["connections"] and statistics["tasks"] <= fresh["tasks"]
            if empty or time.monotonic() > deadline:
                return statistics
            time.sleep(0.1)

    def read_log(self) -> str:
        """Return the whole log of the process."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def stop(self) -> int:
        """Stop the process in order; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


async def live(url: str, rng: random.Random, end: float) -> int:
    """Run one client after the other, each with a random ending; return their number."""
    count = 0
    while time.monotonic() < end:
        count += 1
        try:
            async with AsyncExitStack() as stack:
                if rng.random() < 0.1:
                    async with asyncio.timeout(rng.random() * 0.02):  # the client gives up
                        await stack.enter_async_context(connect(url))
                slow = rng.random() < SLOW_SHARE
                client = await stack.enter_async_context(connect(url, small_buffer=slow))
                for _ in range(rng.randrange(1, 15)):
                    await act(client, rng)
                await (stall(client) if slow else leave(client, rng))
        except (TimeoutError, ConnectionClosed, InvalidStatus, OSError):
            continue  # refused, closed by the server, or lost
    return count


async def act(client: Client, rng: random.Random) -> None:
    """Perform a random action."""
    match rng.randrange(10):
        case 0:
            await client.send_raw(rng.randbytes(rng.randrange(100)))
        case 1:
            await client.send_raw('{"type":' * rng.randrange(50))
        case 2:
            await client.send("stream")
        case 3:
            client.pause_reading()
            await asyncio.sleep(rng.random())
            client.resume_reading()
        case 4:
            await client.send("wait")
        case 5:
            await client.send("move")
        case 6:
            text = json.dumps({"type": "publish", "payload": {"text": "hello"}})
            index = rng.randrange(len(text))
            await client.send_raw(text[:index] + rng.choice('{}[]",:09-e\\') + text[index + 1 :])
        case _:
            await client.send("publish", {"text": "x" * rng.randrange(3000)})
    await asyncio.sleep(rng.random() * 0.05)


async def leave(client: Client, rng: random.Random) -> None:
    """Close in order, drop the connection, end within a frame, or violate the protocol."""
    match rng.randrange(5):
        case 0 | 1:
            await client.close(rng.choice([1000, 1001, 4000]))
        case 2:
            client.vanish()
        case 3:
            client.socket.transport.write(b"\x81\xfe\x10\x00")
            client.vanish()
        case _:
            client.socket.transport.write(b"\x83\x80\x00\x00\x00\x00")
            await client.wait_closed()


async def stall(client: Client) -> None:
    """Request much and read nothing, longer than the limits of the server."""
    client.pause_reading()
    await client.send("stream")
    await asyncio.sleep(STALL_SECONDS)


async def soak(servers: list[ServerProcess], seconds: float, seed: int) -> int:
    """Run clients on all servers concurrently; return their number."""
    end = time.monotonic() + seconds
    urls = [f"ws://127.0.0.1:{server.port}/room" for server in servers]
    clients = [
        live(urls[number % len(urls)], random.Random(seed + number), end)
        for number in range(CLIENTS)
    ]
    return sum(await asyncio.gather(*clients))


def leftovers(fresh: Statistics, warm: Statistics, last: Statistics) -> list[str]:
    """Return descriptions of everything that remains or has grown after all clients have left.

    Args:
        fresh: The statistics before the first client.
        warm: Those after the first quarter of the time.
        last: Those at the end.
    """
    found = []
    for name in ("connections", "rooms"):
        if last[name]:
            found.append(f"{last[name]} {name} remain although all clients have left")
    if last["tasks"] > fresh["tasks"]:
        found.append(f"{last['tasks']} tasks remain, of {fresh['tasks']} at the start")
    for name, bound in (("objects", GROWTH_OBJECTS), ("memory_bytes", GROWTH_BYTES)):
        growth = last[name] - warm[name]
        if growth > bound:
            found.append(f"{name} grew by {growth} after the warm-up: at most {bound} are allowed")
    for name in ("disconnects", "slow_readers"):
        if last[name] == warm[name]:
            found.append(f"there were no {name} after the warm-up: the run is inconclusive")
    return found


def process_errors(status: int, log: str) -> list[str]:
    """Return descriptions of an unexpected exit status and of a traceback in the log."""
    found = []
    if status not in (0, -signal.SIGTERM):
        found.append(f"the process exited with status {status}")
    index = log.find("Traceback")
    if index >= 0:
        found.append(f"there is a traceback in the log:\n{log[max(0, index - 500) :][:3000]}")
    return found


def main() -> None:
    """Soak both protocols concurrently, and exit with descriptions of everything that has grown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options: Any = parser.parse_args()
    seconds = options.minutes * 60
    print(
        f"soaking for {options.minutes:g} minutes with --seed {options.seed};"
        f" {HANDSHAKES_PER_SECOND} handshakes per second and address",
        flush=True,
    )
    with tempfile.TemporaryFile() as push_log, tempfile.TemporaryFile() as portable_log:
        servers = [ServerProcess("push", push_log)]
        try:
            servers.append(ServerProcess("portable", portable_log))
            fresh = [server.statistics() for server in servers]
            count = asyncio.run(soak(servers, seconds / 4, options.seed))
            warm = [s.wait_empty(statistics) for s, statistics in zip(servers, fresh, strict=True)]
            count += asyncio.run(soak(servers, seconds * 3 / 4, options.seed + CLIENTS))
            last = [s.wait_empty(statistics) for s, statistics in zip(servers, fresh, strict=True)]
            found = []
            for server, *statistics in zip(servers, fresh, warm, last, strict=True):
                print(server.protocol, statistics[-1])
                wrong = leftovers(*statistics) + process_errors(server.stop(), server.read_log())
                found += [f"{server.protocol}: {sentence}" for sentence in wrong]
        finally:
            for server in servers:
                server.process.kill()
                server.process.wait()
    if found:
        sys.exit("\n".join(found))
    print(f"{count} clients have connected and left: nothing has grown")
    plain, other = asyncio.run(fuzz_for(seconds * FUZZ_SHARE, options.seed))
    print(f"{plain} plain handshakes and {other} others: both ways agree")


if __name__ == "__main__":
    main()
