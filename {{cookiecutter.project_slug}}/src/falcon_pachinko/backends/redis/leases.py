"""Leases: the exclusive right to run a named task, for a limited time."""

from __future__ import annotations

import asyncio

from ..base import Lease
from . import operations
from .pipeline import Pipeline


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
        operation = operations.acquire(name, self.holder, round(self.seconds * 1000))
        token = await self.pipeline.call(operation)
        if token > 0:
            return Lease(name, token, asked_at + self.seconds)
        return float(-token) / 1000

    async def renew(self, lease: Lease) -> bool:
        """Extend a lease; return whether it is still held."""
        self.pipeline.check_available()
        asked_at = asyncio.get_running_loop().time()
        operation = operations.renew(lease.name, self.holder, round(self.seconds * 1000))
        is_held = await self.pipeline.call(operation)
        if is_held:
            lease.expires = asked_at + self.seconds
        return is_held

    def release(self, lease: Lease) -> None:
        """Release a lease."""
        self.pipeline.call_ignoring_outcome(operations.release(lease.name, self.holder))
