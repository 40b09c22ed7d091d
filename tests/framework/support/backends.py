"""Backends under test, and a node that records the calls of its backend."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.base import Backend
from falcon_pachinko.backends.presence import Presence
from falcon_pachinko.backends.redis.backend import RedisBackend
from falcon_pachinko.backends.restriction_entry import RestrictionEntry
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import Header, Publication

from .certificate import make_certificate
from .redis_servers import REDIS, VALKEY, RedisServer, find_program, free_port, running_redis

T = TypeVar("T")

WAIT_SECONDS = 15.0
# NOTE: a busy machine stops a process for up to a second. A node that stops for longer than two thirds of a
# lease counts as cut off, rightly, and commands wait for it.
TIMING = Timing(grace_seconds=0.2, expiry_seconds=1.8, answer_seconds=2.0)
HISTORY = History(messages=10, seconds=60.0)

prefixes = (f"test-{number}" for number in itertools.count())


@dataclass
class RecordingNode:
    """A node that records the calls of its backend."""

    backend: Backend
    publications: list[tuple[str, Publication]] = field(default_factory=list)
    direct: list[Publication] = field(default_factory=list)
    history_losses: list[tuple[str, Position | None]] = field(default_factory=list)
    resyncs: list[tuple[str, Position | None]] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)
    commands: list[tuple[Publication, str | None, float]] = field(default_factory=list)
    restrictions: list[RestrictionEntry] = field(default_factory=list)

    @property
    def redis(self) -> RedisBackend:
        """The backend, which must be the one over Redis."""
        assert isinstance(self.backend, RedisBackend)
        return self.backend

    def deliver(self, room: str, publication: Publication) -> None:
        self.publications.append((room, publication))

    def deliver_direct(self, publication: Publication) -> None:
        self.direct.append(publication)

    def on_history_lost(self, room: str) -> None:
        self.history_losses.append((room, self.backend.position(room)))

    def execute(self, command: Publication, room: str | None, age_seconds: float) -> None:
        self.commands.append((command, room, age_seconds))

    def on_restriction(self, entry: RestrictionEntry) -> None:
        self.restrictions.append(entry)

    def on_members_outdated(self, room: str) -> None:
        self.outdated.append(room)

    def on_resync(self, room: str) -> None:
        self.resyncs.append((room, self.backend.position(room)))

    def texts(self, room: str) -> list[str]:
        """Return the texts delivered in a room."""
        return [
            publication.data.decode() for name, publication in self.publications if name == room
        ]

    def got_last(self, room: str, expected: str) -> bool:
        """Return whether a text is the last one delivered in a room."""
        return self.texts(room)[-1:] == [expected]

    def positions(self, room: str) -> list[Position | None]:
        """Return the positions of the publications delivered in a room."""
        return [publication.position for name, publication in self.publications if name == room]


def text(data: str, header: Header | None = None) -> Publication:
    """Create a publication of a text."""
    return (
        Publication.of_encoded(data.encode(), header=header)
        if header
        else Publication.of_encoded(data.encode())
    )


def announced(connection: str, user: str) -> Presence:
    """Create a presence with a join and a leave message."""
    return Presence(connection, user, text(f"{user} joined"), text(f"{user} left"))


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""

    async def call() -> bool:
        return condition()

    await wait_for_result(call, True)


async def wait_for_result(call: Callable[[], Awaitable[T]], expected: T) -> None:
    """Repeat a call until it returns the expected result."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await call() != expected:  # noqa: ASYNC110 - no event announces the change
            await asyncio.sleep(0.005)


async def wait_available(*nodes: RecordingNode) -> None:
    """Wait until Redis is available for all nodes."""
    await wait_until(lambda: not any(node.backend.outage for node in nodes))


@contextlib.contextmanager
def running_redis_cluster() -> Iterator[str]:
    """Run a cluster of three servers and return its URL."""
    with contextlib.ExitStack() as stack:
        # NOTE: a server that a busy machine stops for two seconds has not failed.
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "10000", "--cluster-port")
        buses = [free_port() for _ in range(3)]
        servers = [stack.enter_context(running_redis(VALKEY, *options, str(bus))) for bus in buses]
        slots = 16_384
        for number, server in enumerate(servers):
            first, end = number * slots // 3, (number + 1) * slots // 3
            server.command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            server.command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, buses[0])
        deadline = time.monotonic() + WAIT_SECONDS
        for server in servers:
            while "cluster_state:ok" not in str(server.command("CLUSTER", "INFO")):
                assert time.monotonic() < deadline, "the servers do not form a cluster"
                time.sleep(0.01)
        yield f"redis+cluster://127.0.0.1:{servers[0].port}"


@contextlib.contextmanager
def running_sentinel(server: RedisServer) -> Iterator[str]:
    """Run a Sentinel that monitors a server as ``rooms`` and return its URL."""
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / "sentinel.conf"
        port = free_port()
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor rooms 127.0.0.1 {server.port} 1\n",
            encoding="utf-8",
        )
        program = find_program(VALKEY)
        process = subprocess.Popen(
            [str(program), str(conf), "--sentinel"], stdout=subprocess.DEVNULL
        )
        try:
            wait_listening(port, process)
            yield f"redis+sentinel://127.0.0.1:{port}/rooms/0"
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


@contextlib.contextmanager
def running_redis_with_tls() -> Iterator[str]:
    """Run a server that accepts TLS only and return its URL.

    Raises:
        FileNotFoundError: redis-server (the wheel's Valkey has no TLS) or openssl is not installed.
    """
    program = find_program(REDIS)
    if program is None or shutil.which("openssl") is None:
        raise FileNotFoundError("redis-server and openssl are required")
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder))
        port = free_port()
        options = f"--port 0 --tls-port {port} --bind 127.0.0.1 --tls-auth-clients no".split()
        files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--dir", folder]
        process = subprocess.Popen(
            [str(program), *options, *files, "--save", ""], stdout=subprocess.DEVNULL
        )
        try:
            wait_listening(port, process)
            yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


def wait_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server accepts connections."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise AssertionError("the server does not start")


class Nodes:
    """The nodes of a cluster; with the memory backend there is only one."""

    def __init__(
        self, url: str, timing: Timing = TIMING, server: RedisServer | None = None
    ) -> None:
        self.url = url
        self.server = server
        self.timing = timing
        self.prefix = next(prefixes)
        self.running: list[RecordingNode] = []

    async def start(self) -> RecordingNode:
        """Start a node."""
        if not self.url and self.running:
            return self.running[0]
        backend = backend_from_url(self.url, prefix=self.prefix, timing=self.timing)
        node = RecordingNode(backend)
        backend.node = node
        await backend.start()
        self.running.append(node)
        return node

    async def stop(self, node: RecordingNode) -> None:
        """Stop a node in order."""
        self.running.remove(node)
        await node.backend.stop()

    async def crash(self, node: RecordingNode) -> None:
        """Stop a node as SIGKILL does, without a message to Redis."""
        backend = node.redis
        self.running.remove(node)
        for tasks in (backend.tasks, backend.presence.tasks, backend.subscriptions.tasks):
            await tasks.aclose()
        await backend.pubsub.aclose()
        await backend.client.aclose()

    def stored_keys(self) -> list[str]:
        """Return the keys of the cluster's rooms."""
        assert self.server is not None
        keys = [key.removeprefix(f"{self.prefix}:") for key in self.server.keys(f"{self.prefix}:*")]
        return [key for key in keys if not key.startswith("{%nodes}:")]


@contextlib.asynccontextmanager
async def running_nodes(
    url: str, timing: Timing = TIMING, server: RedisServer | None = None
) -> AsyncIterator[Nodes]:
    """Create a cluster and stop all its nodes at the end."""
    nodes = Nodes(url, timing, server)
    try:
        yield nodes
    finally:
        for node in list(nodes.running):
            await nodes.stop(node)


@contextlib.asynccontextmanager
async def disconnected(node: RecordingNode) -> AsyncIterator[None]:
    """Close a node's pub/sub connections and delay the reconnection until the end."""
    backend, may_reconnect = node.redis, asyncio.Event()
    client = backend.client
    refresh_topology = client.refresh_topology

    async def wait() -> None:
        await may_reconnect.wait()
        await refresh_topology()

    client.refresh_topology = wait  # type: ignore[method-assign]
    backend.pubsub.restart("disconnected by the test")
    await wait_until(lambda: backend.outage != "")
    yield
    client.refresh_topology = refresh_topology  # type: ignore[method-assign]
    may_reconnect.set()
    await wait_available(node)
