"""One node of a chaos test: its process, and its link to Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import falcon_pachinko

from ..support.faulty_proxy import FaultyProxy
from ..support.redis_servers import free_port

PROGRAM = Path(__file__).with_name("chaos_program.py")
SOURCE = Path(falcon_pachinko.__file__).parent.parent
WAIT_SECONDS = 20.0
FETCH_SECONDS = 8.0
STEP_SECONDS = 0.02
STOP_SECONDS = 5.0
LOG_BYTES = 10_000
# All users have one address, so the bound of a service is too low.
HANDSHAKES_PER_SECOND = 10_000

STARTED_AT = time.monotonic()


def now() -> float:
    """Return the seconds since the start of the run."""
    return time.monotonic() - STARTED_AT


@dataclass(frozen=True, slots=True)
class ChaosTiming:
    """The timing and the history of the nodes; see ``Timing`` and ``History``."""

    grace_seconds: float = 0.5
    expiry_seconds: float = 3.0
    answer_seconds: float = 1.0
    history_messages: int = 200
    history_seconds: float = 6.0


class Link:
    """The link of a node to all servers of Redis: one proxy for each."""

    def __init__(self, ports: list[int]) -> None:
        self.proxies = [FaultyProxy(port) for port in ports]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Forward connections during an ``async with``."""
        async with contextlib.AsyncExitStack() as stack:
            for proxy in self.proxies:
                await stack.enter_async_context(proxy.listening())
            yield

    def hold(self, *, requests: bool, replies: bool) -> None:
        """Stop forwarding without closing connections."""
        for proxy in self.proxies:
            if requests:
                proxy.to_server.clear()
            if replies:
                proxy.to_node.clear()

    def release(self) -> None:
        """Forward again, beginning with the data held back."""
        for proxy in self.proxies:
            proxy.release()

    def reset(self) -> None:
        """Reset all connections."""
        for proxy in self.proxies:
            proxy.reset_connections()


class NodeProcess:
    """The process of one node.

    Attributes:
        link: Its link to Redis.
        process: The process; ``None`` while it is stopped.
        unexpected_exits: Exits with an unexpected status, or too late.
    """

    def __init__(
        self, number: int, link: Link, url: str, timing: ChaosTiming, folder: Path
    ) -> None:
        self.number = number
        self.link = link
        self.port = free_port()
        self.log = folder / f"node-{number}.log"
        self.unexpected_exits: list[str] = []
        options = {"url": url, "port": self.port}
        options |= {name: getattr(timing, name) for name in ChaosTiming.__slots__}
        options["handshakes_per_second"] = HANDSHAKES_PER_SECOND
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        for proxy in link.proxies:
            arguments += ["--via", str(proxy.server_port), str(proxy.port)]
        self.command = [sys.executable, str(PROGRAM), *arguments]
        # NOTE: without a cache of bytecode, a node takes seconds to start.
        self.variables = {"PYTHONPATH": str(SOURCE), "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process and wait until it serves."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.variables},
            )

        async def serves() -> bool:
            assert self.process is not None
            if self.process.returncode is not None:
                raise RuntimeError(f"node {self.number} did not start:\n{self.read_log()}")
            return await self.get("/statistics") is not None

        try:
            await wait_until(serves, f"node {self.number} serves")
        except TimeoutError:
            self.send_signal(signal.SIGUSR1)  # prints the stacks of its tasks
            await asyncio.sleep(1.0)
            self.unexpected_exits.append(f"node {self.number} does not serve:\n{self.read_log()}")

    async def get(self, path: str) -> Any:
        """Return the JSON response to a GET; ``None`` if there is none."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            return await asyncio.to_thread(fetch, url)
        except (OSError, ValueError):
            return None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal if the process is running."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self, number: signal.Signals) -> None:
        """Stop the process with a signal; kill it if it does not exit."""
        process, self.process = self.process, None
        if process is None:
            return
        started_at = now()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                status = await process.wait()
        except TimeoutError:
            process.send_signal(signal.SIGUSR1)  # prints the stacks of its tasks
            await asyncio.sleep(1.0)
            process.kill()
            status = await process.wait()
        if number not in (-status, signal.SIGTERM if status == 0 else None):
            exit_text = f"node {self.number} exited with {status} after {number.name}"
            self.unexpected_exits.append(exit_text)
        if now() - started_at > STOP_SECONDS:
            took = f"took {now() - started_at:.1f} s from {started_at:.1f} on to exit"
            self.unexpected_exits.append(f"node {self.number} {took}:\n{self.read_log()}")

    def read_log(self) -> str:
        """Return the end of the log."""
        return self.log.read_bytes()[-LOG_BYTES:].decode(errors="replace")

    def errors(self) -> list[str]:
        """Return descriptions of unexpected exits and of errors in the log."""
        found = list(self.unexpected_exits)
        log = self.log.read_text(errors="replace")
        for marker in ("Traceback", "never retrieved", "was destroyed but"):
            if (index := log.find(marker)) >= 0:
                text = log[max(0, index - 500) : index + 3000]
                count = log.count(marker)
                found.append(f"the log of node {self.number} has {count} {marker}:\n{text}")
        return found


def fetch(url: str) -> Any:
    """GET a URL and decode the JSON response."""
    with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as response:
        return json.load(response)


async def wait_until(
    condition: Callable[[], Awaitable[object]], name: str, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until a condition is true.

    Raises:
        TimeoutError: It is not within the time; the message contains its name.
    """
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {name}")
        await asyncio.sleep(STEP_SECONDS)
