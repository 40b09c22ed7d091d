"""Backends under test, and a node that writes down what it is given."""

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
from falcon_pachinko.backends.base import Backend, Timing
from falcon_pachinko.history import History, Position
from falcon_pachinko.publication import Header, Publication

from .redis_servers import REDIS, VALKEY, Engine, find_engine, free_port, running_engine

T = TypeVar("T")

WAIT_SECONDS = 15.0
TIMING = Timing(grace_seconds=0.2, heartbeat_seconds=0.2, expiry_seconds=0.8, answer_seconds=1.0)
HISTORY = History(messages=10, seconds=60.0)

prefixes = (f"test-{number}" for number in itertools.count())


@dataclass
class Recorder:
    """A node that writes down what its backend gives it."""

    backend: Backend
    entries: list[tuple[str, Publication]] = field(default_factory=list)
    direct: list[Publication] = field(default_factory=list)
    lost: list[tuple[str, Position | None]] = field(default_factory=list)
    found: list[tuple[str, Position | None]] = field(default_factory=list)

    def deliver(self, room: str, entry: Publication) -> None:
        self.entries.append((room, entry))

    def deliver_direct(self, entry: Publication) -> None:
        self.direct.append(entry)

    def on_history_lost(self, room: str) -> None:
        self.lost.append((room, self.backend.position(room)))

    def on_resync(self, room: str) -> None:
        self.found.append((room, self.backend.position(room)))

    def said(self, room: str) -> list[str]:
        """What has been said in a room, as text."""
        return [entry.data.decode() for name, entry in self.entries if name == room]

    def has_said(self, room: str, words: str) -> bool:
        """Whether something is the last that has been said in a room."""
        return self.said(room)[-1:] == [words]

    def positions(self, room: str) -> list[Position | None]:
        """The places of what has been said in a room."""
        return [entry.position for name, entry in self.entries if name == room]


def text(words: str, address: Header | None = None) -> Publication:
    """Something to say."""
    return (
        Publication.of_encoded(words.encode(), header=address)
        if address
        else Publication.of_encoded(words.encode())
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""

    async def ask() -> bool:
        return condition()

    await until_answer(ask, True)


async def until_answer(ask: Callable[[], Awaitable[T]], expected: T) -> None:
    """Ask again and again until the answer is the expected one."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await ask() != expected:  # noqa: ASYNC110 - nothing tells when it changes
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def running_cluster() -> Iterator[str]:
    """A cluster of three servers, by its URL."""
    with contextlib.ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port")
        buses = [free_port() for _ in range(3)]
        engines = [stack.enter_context(running_engine(VALKEY, *options, str(bus))) for bus in buses]
        slots = 16_384
        for number, engine in enumerate(engines):
            first, end = number * slots // 3, (number + 1) * slots // 3
            engine.command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            engine.command("CLUSTER", "MEET", "127.0.0.1", engines[0].port, buses[0])
        deadline = time.monotonic() + WAIT_SECONDS
        for engine in engines:
            while "cluster_state:ok" not in str(engine.command("CLUSTER", "INFO")):
                assert time.monotonic() < deadline, "the servers do not become a cluster"
                time.sleep(0.01)
        yield f"redis+cluster://127.0.0.1:{engines[0].port}"


@contextlib.contextmanager
def watched_by_sentinel(engine: Engine) -> Iterator[str]:
    """A Sentinel that knows an engine as ``rooms``, by its URL."""
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / "sentinel.conf"
        port = free_port()
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor rooms 127.0.0.1 {engine.port} 1\n",
            encoding="utf-8",
        )
        program = find_engine(VALKEY)
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
def running_with_tls() -> Iterator[str]:
    """A server that speaks TLS only, by its URL.

    Raises:
        FileNotFoundError: There is no redis-server (the wheel's Valkey has no TLS), or no openssl.
    """
    program, openssl = find_engine(REDIS), shutil.which("openssl")
    if program is None or openssl is None:
        raise FileNotFoundError("redis-server and openssl are needed")
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
        made = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
        ]
        names = ["subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run([openssl, *made, *names], check=True, capture_output=True, timeout=60)
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
    """Wait until a server takes connections."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise AssertionError("the server does not start")


class Nodes:
    """Some nodes of one cluster; with the memory backend all of them are one."""

    def __init__(self, url: str, timing: Timing = TIMING, engine: Engine | None = None) -> None:
        self.url = url
        self.engine = engine
        self.timing = timing
        self.prefix = next(prefixes)
        self.running: list[Recorder] = []

    async def start(self) -> Recorder:
        """One more node."""
        if not self.url and self.running:
            return self.running[0]
        backend = backend_from_url(self.url, prefix=self.prefix, timing=self.timing)
        recorder = Recorder(backend)
        backend.node = recorder
        await backend.start()
        self.running.append(recorder)
        return recorder

    async def stop(self, recorder: Recorder) -> None:
        """End a node in order."""
        self.running.remove(recorder)
        await recorder.backend.stop()

    def stored(self) -> list[str]:
        """What the engine holds of this cluster, without the list of nodes."""
        assert self.engine is not None
        keys = [key.removeprefix(f"{self.prefix}:") for key in self.engine.keys(f"{self.prefix}:*")]
        return [key for key in keys if not key.startswith("{%nodes}:")]


@contextlib.asynccontextmanager
async def cluster(
    url: str, timing: Timing = TIMING, engine: Engine | None = None
) -> AsyncIterator[Nodes]:
    """Nodes that end with the test."""
    nodes = Nodes(url, timing, engine)
    try:
        yield nodes
    finally:
        for recorder in list(nodes.running):
            await nodes.stop(recorder)
