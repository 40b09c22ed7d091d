"""The program of drain_program.py in a process of its own."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

import falcon_pachinko

from .servers import free_port

PROGRAM = Path(__file__).with_name("drain_program.py")
SOURCE = Path(falcon_pachinko.__file__).parent.parent
WAIT_SECONDS = 40.0
SERVICE_RESTART = 1012
SHORTEST, LONGEST = 0.5, 2.5


class Service:
    """The program in a process of its own, and in a process group of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.port = free_port()
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", str(PROGRAM), json.dumps({"port": self.port, **options})],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(PROGRAM.parent)])},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def output(self) -> str:
        return self.log.read_text()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 - no event announces the change
                await asyncio.sleep(0.01)

    async def wait_serving(self, processes: int) -> None:
        await self.wait_for(
            lambda: (
                self.output().count("Application startup complete") >= processes
                and "Uvicorn running on" in self.output()
            )
        )

    async def wait_ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, WAIT_SECONDS)

    async def ready(self) -> int:
        """Return the status of ``/ready``."""
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
            return (await client.get(f"http://127.0.0.1:{self.port}/ready")).status_code

    async def join(self, room: str) -> ClientConnection:
        """Connect a client, and wait until it is in the room."""
        url = f"ws://127.0.0.1:{self.port}/rooms/{room}"
        client = await connect(url, ping_interval=None, proxy=None)
        assert await client.recv() == "welcome"
        return client

    def accepts(self) -> bool:
        """Return whether the port accepts connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS).close()
        except ConnectionRefusedError:
            return False
        return True


@asynccontextmanager
async def running(
    folder: Path, *, processes: int | None = None, **options: Any
) -> AsyncIterator[Service]:
    service = Service(folder, **options)
    try:
        await service.wait_serving(options.get("workers", 1) if processes is None else processes)
        yield service
    finally:
        if service.process.poll() is None:
            os.killpg(service.process.pid, signal.SIGKILL)
            service.process.wait(WAIT_SECONDS)


async def end_of(client: ClientConnection) -> tuple[float, int, str]:
    """Wait for the end of a connection; return its time, its code and its reason."""
    await client.wait_closed()
    assert client.close_code is not None
    return time.monotonic(), client.close_code, client.close_reason or ""


def wait_in(reason: str) -> float:
    """Return the seconds that a close reason asks a client to wait."""
    name, _, seconds = reason.partition("=")
    assert name == "retry"
    return float(seconds)
