"""Clients that connect to a server, stay until it is idle, and leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from picows import WSListener

from .plan import Outcome, Plan
from .rooms import EXTENSIONS, connect
from .workloads import BROWSER_OFFER

# The clients that are in their handshake at once.
AT_ONCE = 20
# What Chromium sends, besides the headers of any handshake: compression is always offered.
BROWSER_HEADERS = {
    "Pragma": "no-cache",
    "Cache-Control": "no-cache",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Safari/537.36",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
    EXTENSIONS: BROWSER_OFFER,
}


async def visit(
    plan: Plan, path: str, settle: Callable[[], Awaitable[tuple[float, float]]]
) -> Outcome:
    """Measure the CPU time of a server per client that connects, and per client that leaves.

    A client leaves as a closed browser does: its connection ends without a close frame.

    Args:
        plan: The plan, with the number of clients.
        path: The path of all clients.
        settle: Waits until the server is idle; returns its CPU time, and the share of a core that it takes then.
    """
    urls = iter([f"ws://127.0.0.1:{plan.ports[0]}{path}"] * plan.visitors)
    transports = []

    async def take_turns() -> None:
        for url in urls:
            transports.append(await connect(plan, url, WSListener(), BROWSER_HEADERS))

    before, idle = await settle()
    started = time.perf_counter()
    await asyncio.gather(*(take_turns() for _ in range(AT_ONCE)))
    connected, _ = await settle()
    at_connected = time.perf_counter()
    for transport in transports:
        transport.disconnect(False)
    left, _ = await settle()
    at_left = time.perf_counter()
    connect_seconds = connected - before - idle * (at_connected - started)
    disconnect_seconds = left - connected - idle * (at_left - at_connected)
    return {
        "cpu_us": (connect_seconds + disconnect_seconds) / plan.visitors * 1e6,
        "connect_us": connect_seconds / plan.visitors * 1e6,
        "disconnect_us": disconnect_seconds / plan.visitors * 1e6,
    }
