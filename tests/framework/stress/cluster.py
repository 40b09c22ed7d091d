"""Three nodes over Redis, each behind a link of its own, into which chaos tests inject faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import falcon_pachinko

from ..support.faulty_proxy import FaultyProxy
from ..support.redis_servers import free_port
from .deployment import Deployment
from .record import Command, InjectedFault

PROGRAM = Path(__file__).with_name("chaos_program.py")
SOURCE = Path(falcon_pachinko.__file__).parent.parent
NODES = 3
WAIT_SECONDS = 20.0
FETCH_SECONDS = 8.0
STEP_SECONDS = 0.02
STOP_SECONDS = 5.0
# Replies and messages of Redis arrive within this time.
DRAIN_SECONDS = 0.3
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


@dataclass(frozen=True, slots=True)
class Fault:
    """A planned fault.

    Attributes:
        at: The time in seconds after the start.
        kind: A name in ``faults.FAULTS``.
        node: The node whose process or link it affects; for a fault of Redis, it selects the server or room.
        seconds: The duration; the distance of a jump of the clock.
    """

    at: float
    kind: str
    node: int
    seconds: float


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


class Cluster:
    """The servers of Redis and three nodes, each with a link.

    Attributes:
        deployment: The servers.
        publisher_link: The link of publishers outside the cluster to a single server.
        nodes: The nodes.
        injected: The injected faults.
        commands: The commands that were sent.
        targets: Returns the users that are connected to a node, each with a room.
        has_small_buffers: Whether Redis disconnects subscribers that read slowly.
        clock_back_seconds: By how much clocks of Redis have jumped back, all in all.
        errors: Unexpected exits, errors in logs and faults that a node did not notice.
    """

    def __init__(self, deployment: Deployment, timing: ChaosTiming, folder: Path) -> None:
        self.deployment = deployment
        self.timing = timing
        ports = [server.port for server in deployment.servers]
        self.publisher_link = Link(ports)
        self.nodes = [
            NodeProcess(number, Link(ports), deployment.url, timing, folder)
            for number in range(NODES)
        ]
        self.injected: list[InjectedFault] = []
        self.commands: list[Command] = []
        self.targets: Callable[[int], list[tuple[str, str]]] = lambda node: []
        self.errors: list[str] = []
        self.has_small_buffers = False
        self.clock_back_seconds = 0.0
        self.server_lock = asyncio.Lock()
        self.node_locks = [asyncio.Lock() for _ in self.nodes]
        self.link_locks = [asyncio.Lock() for _ in self.nodes]

    @property
    def publisher_url(self) -> str:
        """The URL for publishers outside the cluster."""
        if self.deployment.mode != "single":
            return self.deployment.url
        return f"redis://127.0.0.1:{self.publisher_link.proxies[0].port}/0"

    @contextlib.contextmanager
    def recording(
        self, kind: str, node: int | None = None, *, loses_data: bool = False, room: str = ""
    ) -> Iterator[None]:
        """Record a fault for the duration of the ``with``; its start is recorded at once."""
        started_at = now()
        index = len(self.injected)
        rest = (loses_data, room)
        self.injected.append(InjectedFault(kind, node, started_at, float("inf"), *rest))
        try:
            yield
        finally:
            self.injected[index] = InjectedFault(kind, node, started_at, now(), *rest)

    @contextlib.asynccontextmanager
    async def healthy(self) -> AsyncIterator[None]:
        """Wait until no fault of a node is in progress; none begins during the ``async with``."""
        async with contextlib.AsyncExitStack() as stack:
            for lock in (*self.node_locks, *self.link_locks):
                await stack.enter_async_context(lock)
            yield

    @contextlib.asynccontextmanager
    async def without_links(self) -> AsyncIterator[None]:
        """Cut off all nodes and publishers during an ``async with``; what was published arrives before."""
        links = [self.publisher_link, *(node.link for node in self.nodes)]
        for link in links:
            link.hold(requests=True, replies=False)
        await asyncio.sleep(DRAIN_SECONDS)
        for link in links:
            link.hold(requests=True, replies=True)
            link.reset()
        try:
            yield
        finally:
            for link in links:
                link.reset()
                link.release()

    def log(self, text: str) -> None:
        """Print a line with the time."""
        print(f"{now():7.2f} {text}", flush=True)


@contextlib.asynccontextmanager
async def running_cluster(deployment: Deployment, timing: ChaosTiming) -> AsyncIterator[Cluster]:
    """Run a cluster during an ``async with``; afterwards its ``errors`` are complete."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        cluster = Cluster(deployment, timing, Path(folder))
        async with contextlib.AsyncExitStack() as stack:
            for link in (cluster.publisher_link, *(node.link for node in cluster.nodes)):
                await stack.enter_async_context(link.listening())
            try:
                async with asyncio.TaskGroup() as group:
                    for node in cluster.nodes:
                        group.create_task(node.start())
                yield cluster
            finally:
                await asyncio.gather(*(node.stop(signal.SIGTERM) for node in cluster.nodes))
                cluster.errors += [error for node in cluster.nodes for error in node.errors()]


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
