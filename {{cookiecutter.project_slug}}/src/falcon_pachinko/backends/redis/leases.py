"""Leases: the exclusive right to run a named task, for a limited time."""

from __future__ import annotations

import asyncio

from ..base import Lease
from .pipeline import Pipeline
from .script import NODES


class Leases:
    """The leases of a node.

    Attributes:
        holder: The name of the node.

    Args:
        pipeline: Executes operations.
        seconds: The duration of a lease.
    """

    holder: str

    def __init__(self, pipeline: Pipeline, seconds: float) -> None:
        self.pipeline = pipeline
        self.seconds = seconds

    async def acquire(self, name: str) -> Lease | float:
        """Acquire a lease, or return the seconds until the next attempt."""
        self.pipeline.check_available()
        asked_at = asyncio.get_running_loop().time()
        token = await self.pipeline.call(
            "acquire", NODES, name, self.holder, round(self.seconds * 1000)
        )
        if token > 0:
            return Lease(name, token, asked_at + self.seconds)
        return float(-token) / 1000

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease; return whether it is still held."""
        self.pipeline.check_available()
        asked_at = asyncio.get_running_loop().time()
        is_held = await self.pipeline.call(
            "renew", NODES, lease.name, self.holder, round(self.seconds * 1000)
        )
        if is_held:
            lease.expires = asked_at + self.seconds
        return bool(is_held)

    def release(self, lease: Lease) -> None:
        """Release a lease."""
        self.pipeline.call_ignoring_outcome("release", NODES, lease.name, self.holder)
