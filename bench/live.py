"""Live traffic in a room of a node, and the delay of its messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import uvloop
from picows import WSFrame, WSTransport

from .child import python, start
from .listeners import WAIT_SECONDS, Listener, connect, post, read_lines
from .plan import Outcome

LIVE_MEMBERS, LIVE_PER_SECOND = 50, 50


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


@contextlib.contextmanager
def live_traffic(
    port: int, environment: Mapping[str, str]
) -> Iterator[Callable[[], Awaitable[float]]]:
    """Send live traffic to a node from another process; yield a function for the p99 in ms since its last call."""
    command = python("-m", "bench.live", str(port))
    with start("the live traffic", command, Path(), environment) as traffic:
        traffic.read_line(WAIT_SECONDS)

        async def p99_ms() -> float:
            traffic.write_line("")
            return float(await asyncio.to_thread(traffic.read_line, WAIT_SECONDS))

        yield p99_ms


def compare(
    before_ms: float, during_ms: float, complete: int, count: int, seconds: float
) -> Outcome:
    """Return the p99 before and while clients come, and how many of them have missed nothing."""
    return {
        "p99_alone_ms": before_ms,
        "p99_ms": during_ms,
        "p99_ratio": during_ms / before_ms,
        "complete": complete / count,
        "incomplete": float(count - complete),
        "seconds": seconds,
    }


if __name__ == "__main__":
    uvloop.run(send_live(int(sys.argv[1])))
