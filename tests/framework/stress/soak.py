"""Let many clients come, talk, misbehave and go for minutes; then nothing may have grown.

python -m tests.falcon_pachinko.soak --minutes 10
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

PROGRAM = Path(__file__).with_name("soak_program.py")
SOURCE = Path(falcon_pachinko.__file__).parent.parent
CLIENTS = 60
WAIT_SECONDS = 20.0
# After the first quarter of the time: what the allocator keeps varies, what leaks goes on growing.
GROWTH_BYTES = 8 * 1024 * 1024
GROWTH_OBJECTS = 2000
# Longer than the program's limits let a client stall its own handler and then its own close.
STALLS_SECONDS = 2.0
SLOW_SHARE = 0.1

Numbers = dict[str, int]


class Soaked:
    """A server process and its log."""

    def __init__(self, way: str, log: IO[bytes]) -> None:
        self.way = way
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(PROGRAM), way],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def numbers(self) -> Numbers:
        """What the process counts of itself."""
        url = f"http://127.0.0.1:{self.port}/numbers"
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
            found: Numbers = json.load(answer)
        return found

    def wait_empty(self, fresh: Numbers) -> Numbers:
        """The numbers once everybody has gone, or after 20 s."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            numbers = self.numbers()
            empty = not numbers["connections"] and numbers["tasks"] <= fresh["tasks"]
            if empty or time.monotonic() > deadline:
                return numbers
            time.sleep(0.1)

    def read_log(self) -> str:
        """All that the process has logged."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def stop(self) -> int:
        """End the process in order; the exit status of an orderly end is that of its signal, or 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


async def live(url: str, dice: random.Random, end: float) -> int:
    """One client after the other, each with an end of its own; count them."""
    count = 0
    while time.monotonic() < end:
        count += 1
        try:
            async with AsyncExitStack() as stack:
                if dice.random() < 0.1:
                    async with asyncio.timeout(dice.random() * 0.02):  # it gives up
                        await stack.enter_async_context(connect(url))
                slow = dice.random() < SLOW_SHARE
                client = await stack.enter_async_context(connect(url, small_buffer=slow))
                for _ in range(dice.randrange(1, 15)):
                    await act(client, dice)
                await (stall(client) if slow else leave(client, dice))
        except (TimeoutError, ConnectionClosed, InvalidStatus, OSError):
            continue  # refused, closed for what it did, or gone
    return count


async def act(client: Client, dice: random.Random) -> None:
    """Do one thing or another."""
    match dice.randrange(10):
        case 0:
            await client.send_raw(dice.randbytes(dice.randrange(100)))
        case 1:
            await client.send_raw('{"type":' * dice.randrange(50))
        case 2:
            await client.send("stream")
        case 3:
            client.pause_reading()
            await asyncio.sleep(dice.random())
            client.resume_reading()
        case 4:
            await client.send("wait")
        case 5:
            await client.send("move")
        case 6:
            text = json.dumps({"type": "say", "payload": {"text": "hello"}})
            place = dice.randrange(len(text))
            await client.send_raw(text[:place] + dice.choice('{}[]",:09-e\\') + text[place + 1 :])
        case _:
            await client.send("say", {"text": "x" * dice.randrange(3000)})
    await asyncio.sleep(dice.random() * 0.05)


async def leave(client: Client, dice: random.Random) -> None:
    """End in order, without a word, in the middle of a frame, or by breaking the protocol."""
    match dice.randrange(5):
        case 0 | 1:
            await client.close(dice.choice([1000, 1001, 4000]))
        case 2:
            client.vanish()
        case 3:
            client.socket.transport.write(b"\x81\xfe\x10\x00")
            client.vanish()
        case _:
            client.socket.transport.write(b"\x83\x80\x00\x00\x00\x00")
            await client.wait_closed()


async def stall(client: Client) -> None:
    """Ask for much and read nothing of it, longer than the server bears with."""
    client.pause_reading()
    await client.send("stream")
    await asyncio.sleep(STALLS_SECONDS)


async def soak(servers: list[Soaked], seconds: float, seed: int) -> int:
    """Let clients live on all servers at once; count them."""
    end = time.monotonic() + seconds
    urls = [f"ws://127.0.0.1:{server.port}/room" for server in servers]
    lives = [
        live(urls[number % len(urls)], random.Random(seed + number), end)
        for number in range(CLIENTS)
    ]
    return sum(await asyncio.gather(*lives))


def leftovers(fresh: Numbers, warm: Numbers, last: Numbers) -> list[str]:
    """What is left or has grown now that everybody has gone, in sentences.

    Args:
        fresh: The numbers before anybody came.
        warm: Those after the first quarter of the time.
        last: Those at the end.
    """
    found = []
    for what in ("connections", "rooms"):
        if last[what]:
            found.append(f"{last[what]} {what} are left though everybody has gone")
    if last["tasks"] > fresh["tasks"]:
        found.append(f"{last['tasks']} tasks are left of {fresh['tasks']} at first")
    for what, bound in (("objects", GROWTH_OBJECTS), ("memory_bytes", GROWTH_BYTES)):
        growth = last[what] - warm[what]
        if growth > bound:
            found.append(f"{what} grew by {growth} after the warm-up: at most {bound} may be")
    for what in ("goodbyes", "slow_readers"):
        if last[what] == warm[what]:
            found.append(f"there were no {what} after the warm-up: this soak shows nothing")
    return found


def complaints(status: int, log: str) -> list[str]:
    """What was wrong with the end of the process and with what it has logged, in sentences."""
    found = []
    if status not in (0, -signal.SIGTERM):
        found.append(f"the process ended with status {status}")
    place = log.find("Traceback")
    if place >= 0:
        found.append(f"there is a traceback in the log:\n{log[max(0, place - 500) :][:3000]}")
    return found


def main() -> None:
    """Soak both ways at once, and exit with sentences where something has grown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options: Any = parser.parse_args()
    seconds = options.minutes * 60
    print(f"soaking for {options.minutes:g} minutes with --seed {options.seed}", flush=True)
    with tempfile.TemporaryFile() as push_log, tempfile.TemporaryFile() as portable_log:
        servers = [Soaked("push", push_log)]
        try:
            servers.append(Soaked("portable", portable_log))
            fresh = [server.numbers() for server in servers]
            count = asyncio.run(soak(servers, seconds / 4, options.seed))
            warm = [s.wait_empty(numbers) for s, numbers in zip(servers, fresh, strict=True)]
            count += asyncio.run(soak(servers, seconds * 3 / 4, options.seed + CLIENTS))
            last = [s.wait_empty(numbers) for s, numbers in zip(servers, fresh, strict=True)]
            found = []
            for server, *numbers in zip(servers, fresh, warm, last, strict=True):
                print(server.way, numbers[-1])
                wrong = leftovers(*numbers) + complaints(server.stop(), server.read_log())
                found += [f"{server.way}: {sentence}" for sentence in wrong]
        finally:
            for server in servers:
                server.process.kill()
                server.process.wait()
    if found:
        sys.exit("\n".join(found))
    print(f"{count} clients have come and gone: nothing has grown")


if __name__ == "__main__":
    main()
