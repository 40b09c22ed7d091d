"""Three nodes over one Redis, each behind a proxy, and the faults that chaos tests inject."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import falcon_pachinko

from ..support.faulty_proxy import FaultyProxy
from ..support.redis_servers import RedisServer, free_port
from .invariants import InjectedFault

PROGRAM = Path(__file__).with_name("chaos_program.py")
SOURCE = Path(falcon_pachinko.__file__).parent.parent
NODES = 3
WAIT_SECONDS = 20.0
STEP_SECONDS = 0.02
STOP_SECONDS = 5.0
LOG_BYTES = 10_000
# All users have one address, so the bound of a service is too low.
HANDSHAKES_PER_SECOND = 10_000
# A node notices a held connection within answer_seconds (1 s), at the next of its four checks in that time.
NOTICE_SECONDS = 2.5
# The defaults of Redis and Valkey.
DEFAULT_BUFFER_LIMIT = "pubsub 33554432 8388608 60"


STARTED_AT = time.monotonic()


def now() -> float:
    """Return the seconds since the start of the run."""
    return time.monotonic() - STARTED_AT


@dataclass(frozen=True, slots=True)
class ChaosTiming:
    """The timing and the history of the nodes; see ``Timing`` and ``History``."""

    grace_seconds: float = 0.5
    expiry_seconds: float = 2.0
    answer_seconds: float = 1.0
    history_messages: int = 200
    history_seconds: float = 6.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A planned fault.

    Attributes:
        at: The time in seconds after the start.
        kind: A name in ``FAULTS``.
        node: The node whose process or proxy it affects; unused for a fault of Redis.
        seconds: The duration.
    """

    at: float
    kind: str
    node: int
    seconds: float


class NodeProcess:
    """The process of one node.

    Attributes:
        process: The process; ``None`` while it is stopped.
        unexpected_exits: Exits with an unexpected status, or too late.
    """

    def __init__(self, number: int, proxy: FaultyProxy, timing: ChaosTiming, folder: Path) -> None:
        self.number = number
        self.proxy = proxy
        self.port = free_port()
        self.log = folder / f"node-{number}.log"
        self.unexpected_exits: list[str] = []
        options = {"url": f"redis://127.0.0.1:{proxy.port}/0", "port": self.port}
        options |= {name: getattr(timing, name) for name in ChaosTiming.__slots__}
        options["handshakes_per_second"] = HANDSHAKES_PER_SECOND
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.command = [sys.executable, "-B", str(PROGRAM), *arguments]
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process and wait until it serves."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
            )

        async def serves() -> bool:
            assert self.process is not None
            if self.process.returncode is not None:
                raise RuntimeError(f"node {self.number} did not start:\n{self.read_log()}")
            return await self.get("/statistics") is not None

        await wait_until(serves, f"node {self.number} serves")

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
            self.process.send_signal(number)

    async def stop(self, number: signal.Signals) -> None:
        """Stop the process with a signal; kill it if it does not exit."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        started_at = now()
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
    """A Redis server, three proxies and three nodes.

    Attributes:
        server: The Redis server.
        nodes: The nodes.
        injected: The injected faults.
        has_small_buffers: Whether Redis disconnects subscribers that read slowly.
        errors: Unexpected exits, errors in logs and faults that a node did not notice.
    """

    def __init__(self, server: RedisServer, timing: ChaosTiming, folder: Path) -> None:
        self.server = server
        self.timing = timing
        self.nodes = [
            NodeProcess(number, FaultyProxy(server.port), timing, folder) for number in range(NODES)
        ]
        self.injected: list[InjectedFault] = []
        self.errors: list[str] = []
        self.has_small_buffers = False
        self.server_lock = asyncio.Lock()
        self.node_locks = [asyncio.Lock() for _ in self.nodes]
        self.proxy_locks = [asyncio.Lock() for _ in self.nodes]

    @contextlib.contextmanager
    def recording(self, kind: str, node: int | None = None) -> Any:
        """Record a fault for the duration of the ``with``; its start is recorded at once."""
        started_at = now()
        index = len(self.injected)
        self.injected.append(InjectedFault(kind, node, started_at, float("inf")))
        try:
            yield
        finally:
            self.injected[index] = InjectedFault(kind, node, started_at, now())

    async def inject(self, fault: Fault) -> None:
        """Inject a fault and end it after its duration."""
        await FAULTS[fault.kind].inject(self, fault)

    async def kill_node(self, fault: Fault) -> None:
        async with self.node_locks[fault.node]:
            with self.recording("kill", fault.node):
                node = self.nodes[fault.node]
                await node.stop(signal.SIGKILL)
                await asyncio.sleep(fault.seconds)
                await node.start()

    async def restart_all(self, fault: Fault) -> None:
        for number, node in enumerate(self.nodes):
            async with self.node_locks[number]:
                with self.recording("restart", number):
                    await node.stop(signal.SIGTERM)
                    await node.start()

    async def pause_node(self, fault: Fault) -> None:
        async with self.node_locks[fault.node]:
            with self.recording("pause", fault.node):
                self.nodes[fault.node].send_signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    self.nodes[fault.node].send_signal(signal.SIGCONT)

    async def kill_subscribers(self, fault: Fault) -> None:
        async with self.server_lock:
            with self.recording("kill subscribers"):
                await self.execute("CLIENT", "KILL", "TYPE", "pubsub")

    async def kill_clients(self, fault: Fault) -> None:
        async with self.server_lock:
            with self.recording("kill clients"):
                await self.execute("CLIENT", "KILL", "TYPE", "normal")

    async def shrink_buffers(self, fault: Fault) -> None:
        name = "client-output-buffer-limit"
        async with self.server_lock:
            with self.recording("small buffers"):
                await self.execute("CONFIG", "SET", name, "pubsub 1024 1024 1")
                self.has_small_buffers = True
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    self.has_small_buffers = False
                    await self.execute("CONFIG", "SET", name, DEFAULT_BUFFER_LIMIT)

    async def pause_redis(self, fault: Fault) -> None:
        async with self.server_lock:
            with self.recording("pause redis"):
                self.server.pause()
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    self.server.resume()

    async def run_slow_command(self, fault: Fault) -> None:
        async with self.server_lock:
            with self.recording("slow command"):
                await self.execute("DEBUG", "SLEEP", str(fault.seconds))

    async def restart_redis(self, fault: Fault) -> None:
        async with self.server_lock:
            with self.recording("restart redis"):
                await asyncio.to_thread(self.server.kill)
                await asyncio.sleep(fault.seconds)
                await asyncio.to_thread(self.server.restart)

    async def reset_connections(self, fault: Fault) -> None:
        async with self.proxy_locks[fault.node]:
            with self.recording("reset connections", fault.node):
                self.nodes[fault.node].proxy.reset_connections()

    async def hold_connections(self, fault: Fault) -> None:
        """Stop forwarding in one direction or in both, without closing connections."""
        async with self.proxy_locks[fault.node]:
            with self.recording(fault.kind, fault.node):
                proxy = self.nodes[fault.node].proxy
                if fault.kind != "hold replies":
                    proxy.to_server.clear()
                if fault.kind != "hold requests":
                    proxy.to_node.clear()
                try:
                    await asyncio.sleep(fault.seconds)
                    await self.check_noticed(fault)
                finally:
                    proxy.release()

    async def check_noticed(self, fault: Fault) -> None:
        """Record an error if a node has not noticed that Redis is unavailable."""
        node = self.nodes[fault.node]
        if fault.seconds < NOTICE_SECONDS or self.node_locks[fault.node].locked():
            return  # the fault is too short, or the node is stopped or paused itself
        statistics = await node.get("/statistics")
        if statistics is not None and not statistics["outage"]:
            self.errors.append(
                f"node {fault.node} has not noticed '{fault.kind}' within {fault.seconds:.1f} s"
            )

    async def execute(self, *command: str) -> None:
        """Execute a command on the Redis server."""
        await asyncio.to_thread(self.server.command, *command)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its function, and the bounds of its duration."""

    inject: Callable[[Cluster, Fault], Awaitable[None]]
    min_seconds: float = 0.0
    max_seconds: float = 0.0


# The durations lie below and above the times of ChaosTiming: expiry 2 s, answer 1 s, grace period 0.5 s.
FAULTS = {
    "kill node": Kind(Cluster.kill_node, 0.0, 3.0),
    "rolling restart": Kind(Cluster.restart_all),
    "pause node briefly": Kind(Cluster.pause_node, 0.2, 1.2),
    "pause node for long": Kind(Cluster.pause_node, 2.5, 4.5),
    "kill subscribers": Kind(Cluster.kill_subscribers),
    "kill clients": Kind(Cluster.kill_clients),
    "small buffers": Kind(Cluster.shrink_buffers, 0.5, 1.5),
    "pause redis": Kind(Cluster.pause_redis, 1.2, 3.5),
    "slow command": Kind(Cluster.run_slow_command, 0.3, 2.5),
    "restart redis": Kind(Cluster.restart_redis, 0.0, 2.0),
    "reset connections": Kind(Cluster.reset_connections),
    "hold both directions": Kind(Cluster.hold_connections, 1.5, 5.0),
    "hold replies": Kind(Cluster.hold_connections, 1.5, 5.0),
    "hold requests": Kind(Cluster.hold_connections, 1.5, 5.0),
}


def plan(rng: random.Random, seconds: float) -> list[Fault]:
    """Plan the faults of a period: all kinds in turn, in a new random order each time."""
    gap_seconds = min(2.5, seconds / len(FAULTS))
    faults: list[Fault] = []
    at = 0.0
    while True:
        for name in rng.sample(sorted(FAULTS), len(FAULTS)):
            at += gap_seconds * rng.uniform(0.3, 1.7)
            if at > seconds:
                return faults
            kind = FAULTS[name]
            duration = rng.uniform(kind.min_seconds, kind.max_seconds)
            faults.append(Fault(at, name, rng.randrange(NODES), duration))


@contextlib.asynccontextmanager
async def running_cluster(server: RedisServer, timing: ChaosTiming) -> AsyncIterator[Cluster]:
    """Run a cluster during an ``async with``; afterwards its ``errors`` are complete."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        cluster = Cluster(server, timing, Path(folder))
        async with contextlib.AsyncExitStack() as stack:
            for node in cluster.nodes:
                await stack.enter_async_context(node.proxy.listening())
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
    with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as response:
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
