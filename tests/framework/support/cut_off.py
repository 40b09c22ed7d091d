"""A node of a cluster that can be cut off from Redis."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from falcon_pachinko.backends import backend_from_url
from falcon_pachinko.backends.timing import Timing

from .backends import RecordingNode, wait_available, wait_until
from .faulty_proxy import FaultyProxy


@dataclasses.dataclass
class CutOff:
    """A node with a link of its own to Redis."""

    node: RecordingNode
    link: FaultyProxy

    async def cut(self) -> None:
        """Hold back all data, until the node notices."""
        self.link.to_server.clear()
        self.link.to_node.clear()
        await wait_until(lambda: self.node.backend.outage != "")

    async def restore(self) -> None:
        """Forward data again, on new connections."""
        self.link.reset_connections()
        self.link.release()
        await wait_available(self.node)


@asynccontextmanager
async def running_cut_off(port: int, prefix: str, timing: Timing) -> AsyncIterator[CutOff]:
    """Run a node that reaches Redis at a port; it is listed."""
    link = FaultyProxy(port)
    async with link.listening():
        url = f"redis://127.0.0.1:{link.port}/0"
        node = RecordingNode(backend_from_url(url, prefix=prefix, timing=timing))
        node.backend.node = node
        await node.backend.start()
        await wait_until(node.redis.available.is_set)
        yield CutOff(node, link)
        await node.backend.stop()
