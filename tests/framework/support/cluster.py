"""Three nodes over one engine, each with a wire of its own to it, and what can happen to them."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import falcon_pachinko

from ..stress.invariants import Trouble
from .redis_servers import Engine, free_port

PROGRAM = Path(__file__).parents[1] / "stress" / "chaos_program.py"
SOURCE = Path(falcon_pachinko.__file__).parent.parent
NODES = 3
WAIT_SECONDS = 20.0
STEP_SECONDS = 0.02
STOP_SECONDS = 5.0
CHUNK_BYTES = 64 * 1024
LOG_BYTES = 10_000
# With an answer within 1 s: it is looked for four times in that time.
NOTICE_SECONDS = 2.5
# What a server puts back after it was asked for less: the defaults of Redis and Valkey.
BUFFERS = "pubsub 33554432 8388608 60"


BEGUN = time.monotonic()


def now() -> float:
    """Seconds since the run has begun."""
    return time.monotonic() - BEGUN


@dataclass(frozen=True, slots=True)
class Patience:
    """How patient the nodes are; see ``Timing`` and ``History``."""

    grace_seconds: float = 0.5
    heartbeat_seconds: float = 0.5
    expiry_seconds: float = 2.0
    answer_seconds: float = 1.0
    history_messages: int = 200
    history_seconds: float = 6.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is to happen.

    Attributes:
        at: How many seconds after the beginning.
        kind: A name in ``FAULTS``.
        node: To which node, or on its wire; without meaning for what happens to the engine.
        seconds: For how long.
    """

    at: float
    kind: str
    node: int
    seconds: float


class Wire:
    """What carries bytes between one node and the engine, and may stop to without a word."""

    def __init__(self, engine_port: int) -> None:
        self.engine_port = engine_port
        self.port = free_port()
        self.to_engine = asyncio.Event()
        self.to_node = asyncio.Event()
        self.heal()
        self.writers: set[asyncio.StreamWriter] = set()
        self.carrying: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Carry for the length of an ``async with``."""
        server = await asyncio.start_server(self.carry, "127.0.0.1", self.port)
        try:
            yield
        finally:
            self.heal()
            server.close()
            self.cut()
            if self.carrying:
                await asyncio.wait(self.carrying)

    def heal(self) -> None:
        """Carry both ways, first what was held back."""
        self.to_engine.set()
        self.to_node.set()

    def cut(self) -> None:
        """End all connections with a reset."""
        for writer in self.writers:
            if writer.is_closing():
                continue
            plug = writer.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end; where the engine does not listen, end it at once."""
        task = asyncio.current_task()
        assert task is not None
        self.carrying.add(task)
        task.add_done_callback(self.carrying.discard)
        self.writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                await self.to_engine.wait()
                behind, ahead = await asyncio.open_connection("127.0.0.1", self.engine_port)
                self.writers.add(ahead)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(pump(reader, ahead, self.to_engine))
                        group.create_task(pump(behind, writer, self.to_node))
                finally:
                    self.writers.discard(ahead)
                    ahead.transport.abort()
        finally:
            self.writers.discard(writer)
            writer.transport.abort()


async def pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    """Carry one way until either end has ended, then end the other; wait wherever the gate is shut."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            await gate.wait()
            writer.write(data)
            await writer.drain()
    await gate.wait()
    writer.transport.close()  # once all is written


class ClusterNode:
    """One server process, or none while it is dead."""

    def __init__(self, number: int, wire: Wire, patience: Patience, folder: Path) -> None:
        self.number = number
        self.wire = wire
        self.port = free_port()
        self.log = folder / f"node-{number}.log"
        self.bad_ends: list[str] = []
        options = {"url": f"redis://127.0.0.1:{wire.port}/0", "port": self.port}
        options |= {name: getattr(patience, name) for name in Patience.__slots__}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.arguments = [sys.executable, "-B", str(PROGRAM), *words]
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process, and wait until it serves."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.arguments,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
            )

        async def serves() -> bool:
            assert self.process is not None
            if self.process.returncode is not None:
                raise RuntimeError(f"node {self.number} did not start:\n{self.read_log()}")
            return await self.ask("/numbers") is not None

        await wait_until(serves, f"node {self.number} serves")

    async def ask(self, path: str) -> Any:
        """What it answers to a GET, as JSON; ``None`` where it does not."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            return await asyncio.to_thread(fetch, url)
        except (OSError, ValueError):
            return None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, where it lives."""
        if self.process is not None:
            self.process.send_signal(number)

    async def end(self, number: signal.Signals) -> None:
        """End the process by a signal, and wait for that; one that does not end so is killed."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        begun = now()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                status = await process.wait()
        except TimeoutError:
            process.send_signal(signal.SIGUSR1)  # it says where it hangs
            await asyncio.sleep(1.0)
            process.kill()
            status = await process.wait()
        if number not in (-status, signal.SIGTERM if status == 0 else None):
            self.bad_ends.append(f"node {self.number} ended with {status} after {number.name}")
        if now() - begun > STOP_SECONDS:
            took = f"took {now() - begun:.1f} s from {begun:.1f} on to end"
            self.bad_ends.append(f"node {self.number} {took}:\n{self.read_log()}")

    def read_log(self) -> str:
        """The end of what it has logged."""
        return self.log.read_bytes()[-LOG_BYTES:].decode(errors="replace")

    def complaints(self) -> list[str]:
        """What was wrong with its ends and with what it has logged, in sentences."""
        found = list(self.bad_ends)
        log = self.log.read_text(errors="replace")
        for sign in ("Traceback", "never retrieved", "was destroyed but"):
            if (place := log.find(sign)) >= 0:
                text = log[max(0, place - 500) : place + 3000]
                found.append(f"the log of node {self.number} has {log.count(sign)} {sign}:\n{text}")
        return found


class Cluster:
    """An engine, three wires and three nodes.

    Attributes:
        engine: The engine.
        nodes: The nodes.
        troubles: What has happened.
        narrow: Whether the engine lets go of a subscriber who is not as fast as what is said.
        complaints: What was wrong with the ends of the nodes and with what they have logged.
    """

    def __init__(self, engine: Engine, patience: Patience, folder: Path) -> None:
        self.engine = engine
        self.patience = patience
        self.nodes = [
            ClusterNode(number, Wire(engine.port), patience, folder) for number in range(NODES)
        ]
        self.troubles: list[Trouble] = []
        self.complaints: list[str] = []
        self.narrow = False
        self.engine_lock = asyncio.Lock()
        self.node_locks = [asyncio.Lock() for _ in self.nodes]
        self.wire_locks = [asyncio.Lock() for _ in self.nodes]

    @contextlib.contextmanager
    def trouble(self, kind: str, node: int | None = None) -> Any:
        """Record what happens while the ``with`` lasts; that it begins is recorded at once."""
        begun = now()
        place = len(self.troubles)
        self.troubles.append(Trouble(kind, node, begun, float("inf")))
        try:
            yield
        finally:
            self.troubles[place] = Trouble(kind, node, begun, now())

    async def make(self, fault: Fault) -> None:
        """Let something happen, from its beginning to its end."""
        await FAULTS[fault.kind].make(self, fault)

    async def kill_node(self, fault: Fault) -> None:
        async with self.node_locks[fault.node]:
            with self.trouble("kill", fault.node):
                node = self.nodes[fault.node]
                await node.end(signal.SIGKILL)
                await asyncio.sleep(fault.seconds)
                await node.start()

    async def roll(self, fault: Fault) -> None:
        for number, node in enumerate(self.nodes):
            async with self.node_locks[number]:
                with self.trouble("roll", number):
                    await node.end(signal.SIGTERM)
                    await node.start()

    async def pause_node(self, fault: Fault) -> None:
        async with self.node_locks[fault.node]:
            with self.trouble("pause", fault.node):
                self.nodes[fault.node].send(signal.SIGSTOP)
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    self.nodes[fault.node].send(signal.SIGCONT)

    async def kill_subscribers(self, fault: Fault) -> None:
        async with self.engine_lock:
            with self.trouble("kill subscribers"):
                await self.command("CLIENT", "KILL", "TYPE", "pubsub")

    async def kill_clients(self, fault: Fault) -> None:
        async with self.engine_lock:
            with self.trouble("kill clients"):
                await self.command("CLIENT", "KILL", "TYPE", "normal")

    async def narrow_buffers(self, fault: Fault) -> None:
        name = "client-output-buffer-limit"
        async with self.engine_lock:
            with self.trouble("narrow buffers"):
                await self.command("CONFIG", "SET", name, "pubsub 1024 1024 1")
                self.narrow = True
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    self.narrow = False
                    await self.command("CONFIG", "SET", name, BUFFERS)

    async def pause_engine(self, fault: Fault) -> None:
        async with self.engine_lock:
            with self.trouble("pause engine"):
                self.engine.pause()
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    self.engine.resume()

    async def slow_command(self, fault: Fault) -> None:
        async with self.engine_lock:
            with self.trouble("slow command"):
                await self.command("DEBUG", "SLEEP", str(fault.seconds))

    async def restart_engine(self, fault: Fault) -> None:
        async with self.engine_lock:
            with self.trouble("restart engine"):
                await asyncio.to_thread(self.engine.kill)
                await asyncio.sleep(fault.seconds)
                await asyncio.to_thread(self.engine.restart)

    async def cut_wire(self, fault: Fault) -> None:
        async with self.wire_locks[fault.node]:
            with self.trouble("cut wire", fault.node):
                self.nodes[fault.node].wire.cut()

    async def hold_wire(self, fault: Fault) -> None:
        """Carry nothing one way or both ways, and end no connection."""
        async with self.wire_locks[fault.node]:
            with self.trouble(fault.kind, fault.node):
                wire = self.nodes[fault.node].wire
                if fault.kind != "deaf wire":
                    wire.to_engine.clear()
                if fault.kind != "dumb wire":
                    wire.to_node.clear()
                try:
                    await asyncio.sleep(fault.seconds)
                    await self.see_noticed(fault)
                finally:
                    wire.heal()

    async def see_noticed(self, fault: Fault) -> None:
        """Complain where a node does not know yet that nothing comes through."""
        node = self.nodes[fault.node]
        if fault.seconds < NOTICE_SECONDS or self.node_locks[fault.node].locked():
            return  # it was not given the time, or is dead or paused itself
        numbers = await node.ask("/numbers")
        if numbers is not None and not numbers["outage"]:
            self.complaints.append(
                f"node {fault.node} has not noticed a {fault.kind} within {fault.seconds:.1f} s"
            )

    async def command(self, *words: str) -> None:
        await asyncio.to_thread(self.engine.command, *words)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: how it is made, and between which numbers of seconds it lasts."""

    make: Callable[[Cluster, Fault], Awaitable[None]]
    shortest_seconds: float = 0.0
    longest_seconds: float = 0.0


# With an expiry of 2 s, an answer within 1 s and a grace time of 0.5 s; see Patience.
FAULTS = {
    "kill node": Kind(Cluster.kill_node, 0.0, 3.0),
    "rolling restart": Kind(Cluster.roll),
    "pause node briefly": Kind(Cluster.pause_node, 0.2, 1.2),
    "pause node for long": Kind(Cluster.pause_node, 2.5, 4.5),
    "kill subscribers": Kind(Cluster.kill_subscribers),
    "kill clients": Kind(Cluster.kill_clients),
    "narrow buffers": Kind(Cluster.narrow_buffers, 0.5, 1.5),
    "pause engine": Kind(Cluster.pause_engine, 1.2, 3.5),
    "slow command": Kind(Cluster.slow_command, 0.3, 2.5),
    "restart engine": Kind(Cluster.restart_engine, 0.0, 2.0),
    "cut wire": Kind(Cluster.cut_wire),
    "half-open wire": Kind(Cluster.hold_wire, 1.5, 5.0),
    "deaf wire": Kind(Cluster.hold_wire, 1.5, 5.0),
    "dumb wire": Kind(Cluster.hold_wire, 1.5, 5.0),
}


def plan(dice: random.Random, seconds: float) -> list[Fault]:
    """What is to happen within a time: all kinds in turn, each time in another order."""
    gap_seconds = min(2.5, seconds / len(FAULTS))
    faults: list[Fault] = []
    at = 0.0
    while True:
        for name in dice.sample(sorted(FAULTS), len(FAULTS)):
            at += gap_seconds * dice.uniform(0.3, 1.7)
            if at > seconds:
                return faults
            kind = FAULTS[name]
            length = dice.uniform(kind.shortest_seconds, kind.longest_seconds)
            faults.append(Fault(at, name, dice.randrange(NODES), length))


@contextlib.asynccontextmanager
async def running_cluster(engine: Engine, patience: Patience) -> AsyncIterator[Cluster]:
    """A cluster for the length of an ``async with``; each node is told to stop, and killed if it does not.

    Afterwards its ``complaints`` are known.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        cluster = Cluster(engine, patience, Path(folder))
        async with contextlib.AsyncExitStack() as stack:
            for node in cluster.nodes:
                await stack.enter_async_context(node.wire.listening())
            try:
                async with asyncio.TaskGroup() as group:
                    for node in cluster.nodes:
                        group.create_task(node.start())
                yield cluster
            finally:
                await asyncio.gather(*(node.end(signal.SIGTERM) for node in cluster.nodes))
                cluster.complaints += [line for node in cluster.nodes for line in node.complaints()]


def fetch(url: str) -> Any:
    """GET some JSON."""
    with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
        return json.load(answer)


async def wait_until(
    condition: Callable[[], Awaitable[object]], what: str, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until a condition is true.

    Raises:
        TimeoutError: It is not, within the time; the message says what was awaited.
    """
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        await asyncio.sleep(STEP_SECONDS)
