"""Three nodes over Redis, each behind a link of its own, into which chaos tests inject faults."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falcon_pachinko.publisher import AsyncPublisher

from .deployment import Deployment
from .events import Page
from .node_process import ChaosTiming, Link, NodeProcess, now, wait_until
from .record import Command, InjectedFault

NODES = 3
# Replies and messages of Redis arrive within this time.
DRAIN_SECONDS = 0.3


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


class Cluster:
    """The servers of Redis and three nodes, each with a link.

    Attributes:
        deployment: The servers.
        publisher_link: The link of publishers outside the cluster to a single server.
        nodes: The nodes.
        injected: The injected faults.
        commands: The commands that were sent.
        pages: The pages of all clients.
        targets: Returns the users that are connected to a node, each with a room.
        publish: Publishes a message from outside; see ``Chaos.publish``.
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
        self.pages: list[Page] = []
        self.targets: Callable[[int], list[tuple[str, str]]] = lambda node: []
        self.publish: Callable[[AsyncPublisher, str, str, str], Coroutine[Any, Any, str]]
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

    async def wait_available(self) -> None:
        """Wait until Redis is available for all nodes, unless other faults prevent it for long."""

        async def are_available() -> bool:
            replies = await asyncio.gather(*(node.get("/statistics") for node in self.nodes))
            return all(reply is not None and not reply["outage"] for reply in replies)

        with contextlib.suppress(TimeoutError):
            await wait_until(are_available, "Redis is available")

    async def describe_nodes(self) -> list[str]:
        """Return the statistics of all nodes, and their logs with the stacks of their tasks."""
        lines = [f"{node.number}: {await node.get('/statistics')}" for node in self.nodes]
        for node in self.nodes:
            node.send_signal(signal.SIGUSR1)  # prints the stacks
        await asyncio.sleep(1.0)
        return [*lines, *(node.read_log() for node in self.nodes)]

    @contextlib.asynccontextmanager
    async def without_links(self) -> AsyncIterator[None]:
        """Cut off all nodes and publishers during an ``async with``; what was published arrives before."""
        links = [self.publisher_link, *(node.link for node in self.nodes)]
        async with contextlib.AsyncExitStack() as stack:
            for lock in self.link_locks:
                await stack.enter_async_context(lock)
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
