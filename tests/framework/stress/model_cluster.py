"""The nodes and clients of the model test: real backends over a real server, each behind a link of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.publication import Publication
from falcon_pachinko.publisher import AsyncPublisher

from ..support.faulty_proxy import FaultyProxy
from ..support.redis_servers import RedisServer
from .model import EXTERNAL, Record, Sent, Window
from .model_node import Client, ModelNode, make_timing, now

TIMING = make_timing(
    grace_seconds=0.2, heartbeat_seconds=0.3, expiry_seconds=0.9, answer_seconds=1.0
)
# A step without a fault takes milliseconds; a longer one goes on beside the next ones.
STEP_SECONDS = 0.25
# A delay of the event loop by this part of the expiry counts as a fault of all nodes.
STALL = 0.2

prefixes = (f"model-{number}" for number in itertools.count())


class ModelCluster:
    """The nodes, a publisher that is not a node, and their clients.

    Attributes:
        nodes: The node in each place; a killed one remains until another takes its place.
        started: All nodes.
        clients: The open connections in the order of their joins.
        links: The links of the nodes and of the publisher, which is the first.
        publishing: The tasks of the publisher.
    """

    publisher: AsyncPublisher

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.prefix = next(prefixes)
        self.record = Record(TIMING)
        self.nodes: list[ModelNode] = []
        self.started: list[ModelNode] = []
        self.clients: list[Client] = []
        self.links: list[FaultyProxy] = []
        self.publishing: list[asyncio.Task[Any]] = []
        self.names = itertools.count(1)
        self.stack = contextlib.AsyncExitStack()

    # The nodes.

    @contextlib.asynccontextmanager
    async def running(self, count: int) -> AsyncIterator[None]:
        """Run the publisher and a number of nodes during an ``async with``."""
        watching = asyncio.create_task(self.watch_stalls())
        try:
            async with self.stack:
                seconds = TIMING.answer_seconds
                self.publisher = AsyncPublisher(
                    await self.add_link(), prefix=self.prefix, answer_seconds=seconds
                )
                await self.stack.enter_async_context(self.publisher)
                for _ in range(count):
                    self.nodes.append(await self.start_node())
                yield
        finally:
            watching.cancel()

    async def add_link(self) -> str:
        """Start a link to Redis and return its URL."""
        link = FaultyProxy(self.server.port)
        await self.stack.enter_async_context(link.listening())
        self.links.append(link)
        return f"redis://127.0.0.1:{link.port}/0"

    async def start_node(self) -> ModelNode:
        """Start a node that subscribes to the room ``a``."""
        await self.add_link()
        number = len(self.started)
        node = ModelNode(number, self.links[-1], self.prefix, TIMING, self.record)
        self.started.append(node)
        self.record.live.add(number)
        self.stack.push_async_callback(node.backend.stop)
        await node.backend.start()
        await wait_briefly(node.spawn(node.subscribe("a")))
        return node

    @property
    def live(self) -> list[ModelNode]:
        """The nodes that have not been killed."""
        return [node for node in self.nodes if node.is_alive]

    def kill(self, node: ModelNode) -> None:
        """Kill a node, unless it is the only one."""
        if node.is_alive and len(self.live) > 1:
            node.kill()
            self.clients = [each for each in self.clients if each.stay.node != node.number]

    async def watch_stalls(self) -> None:
        """Record delays of the event loop, during which no node can renew anything."""
        while True:
            before = now()
            await asyncio.sleep(0.01)
            if now() - before > STALL * TIMING.expiry_seconds:
                self.record.stalls.append(now())

    def begin_fault(self, node: ModelNode | None) -> None:
        """Record the start of a fault of a node's link, or of Redis."""
        self.record.faults.append(Window(now(), None if node is None else node.number))

    def end_faults(self, node: ModelNode | None) -> None:
        """Record the end of the faults of a node's link, or of Redis."""
        number = None if node is None else node.number
        for fault in self.record.faults:
            if fault.node == number and fault.end is None:
                fault.end = now()

    # The clients.

    async def join(self, node: ModelNode, user: str, room: str) -> None:
        """Open a connection."""
        connection = f"{node.backend.node_id}-{next(self.names)}"
        client = node.join(connection, user, room)
        self.clients.append(client)
        await wait_briefly(client.joining)

    async def leave(self, user: str, room: str, *, grace: bool) -> None:
        """Close the oldest connection of a user in a room, if there is one."""
        for client in self.clients:
            if (client.stay.user, client.stay.room) == (user, room):
                self.clients.remove(client)
                node = next(node for node in self.nodes if node.number == client.stay.node)
                await wait_briefly(node.leave(client, grace=grace))
                return

    async def publish(self, node: ModelNode | None, room: str) -> None:
        """Publish a message from a node or from the publisher; to all connections if the room is empty."""
        number = EXTERNAL if node is None else node.number
        sent = Sent(f"m{next(self.names)}", number, room, now())
        self.record.sent[sent.name] = sent
        message = {"type": "message", "name": sent.name}

        async def publish() -> None:
            with contextlib.suppress(BackendUnavailable):
                if node is None:
                    await self.publisher.broadcast_to_room(room, message)
                elif room:
                    await node.backend.publish_nowait(room, Publication(message))
                else:
                    sent.nodes = await node.backend.publish_direct(Publication(message))
                sent.returned = now()

        await wait_briefly(self.spawn(publish()) if node is None else node.spawn(publish()))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine of the publisher."""
        task = asyncio.create_task(coroutine)
        self.publishing.append(task)
        return task

    def tasks(self) -> set[asyncio.Task[Any]]:
        """Return the tasks of the live nodes' clients and of the publisher."""
        return {*self.publishing}.union(*(node.tasks for node in self.live))


async def wait_briefly(task: asyncio.Task[Any]) -> None:
    """Wait for a task as long as one takes without a fault."""
    await asyncio.wait({task}, timeout=STEP_SECONDS)
