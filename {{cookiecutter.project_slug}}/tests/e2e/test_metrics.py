"""The metrics of several processes of one service are added up."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from ..valkey import Valkey, free_port, running_valkey

if TYPE_CHECKING:
    from ..conftest import Server

pytestmark = pytest.mark.redis

WAIT_SECONDS = 40.0
CLIENTS = 4


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with running_valkey() as valkey:
        yield valkey


async def numbers(port: int) -> dict[str, float]:
    """Return the metrics without labels; none while nothing serves the port."""
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
        try:
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        except httpx.TransportError:
            return {}
    return {name: float(value) for name, value in re.findall(r"^pachinko_(\w+) (\S+)$", text, re.M)}


async def wait_numbers(port: int, **expected: float) -> dict[str, float]:
    """Scrape until metrics have these numbers; return all."""
    found: dict[str, float] = {}
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                found = await numbers(port)
                if found.items() >= expected.items():
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError({name: found.get(name) for name in expected}) from None


async def wait_files(folder: Path, count: int) -> list[Path]:
    """Wait until so many processes have written their numbers; return the files."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            files = list((folder / "var" / "metrics").glob("*.json"))
            if len(files) >= count:
                return files
            await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_two_processes_are_one_service_and_a_dead_one_leaves_its_counters(
    serve: Callable[..., Server], valkey: Valkey, tmp_path: Path, room: str
) -> None:
    port = free_port()
    server = serve(APP_BACKEND_URL=valkey.url, APP_WORKERS="2", APP_METRICS_PORT=str(port))
    await wait_numbers(port, processes=2)
    async with AsyncExitStack() as stack:
        for number in range(CLIENTS):
            await stack.enter_async_context(server.join(f"User {number}", room))
        found = await wait_numbers(port, processes=2, connections=CLIENTS, members=CLIENTS)
        assert found["accepts_total"] == CLIENTS
        assert found["redis_up"] == 1
    before = await wait_numbers(port, connections=0, accepts_total=CLIENTS)
    files = await wait_files(tmp_path, 2)
    os.kill(int(files[0].stem.rpartition("-")[2]), signal.SIGKILL)
    # Another process takes its place, and one of the two serves the port.
    await wait_files(tmp_path, 3)
    after = await wait_numbers(port, processes=2, accepts_total=CLIENTS)
    assert after["messages_out_total"] >= before["messages_out_total"] > 0
    server.stop()
    assert await numbers(port) == {}
