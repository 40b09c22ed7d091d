"""Publish-only access to the rooms in Redis or Valkey, for programs that are not a node."""

from __future__ import annotations

import asyncio

from ...errors import BackendUnavailable, failure_reason
from ...history import Position
from ...publication import Publication
from ...support.tasks import ignore
from ..restriction_entry import Restriction, RestrictionChange
from ..restriction_table import RestrictionTable, listed
from . import operations
from .availability import Availability
from .client import CONNECTION_ERRORS
from .commands import Command, send_command
from .operations import Operation
from .pipeline import Pipeline, T
from .restrictions import read_all, send_restriction
from .room_index import rooms_with_prefix
from .script import NODES, hash_tag
from .url import make_client


class RedisPublisher:
    """Publishes to the nodes that share a URL and a prefix, without subscriptions.

    Args:
        url: The nodes' URL; see :func:`~falcon_pachinko.backends.redis.url.make_client`.
        prefix: The nodes' prefix.
        answer_seconds: The time Redis may take to respond.

    Raises:
        ConfigurationError: The URL cannot be used.
    """

    def __init__(self, url: str, prefix: str, answer_seconds: float) -> None:
        self.client = make_client(url, prefix, answer_seconds)
        self.pipeline = Pipeline(self.client, Availability(), ignore)
        self.running: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has been started and not been closed."""
        return self.running is not None and not self.running.done()

    async def start(self) -> None:
        """Connect.

        Raises:
            BackendUnavailable: Redis does not respond.
        """
        try:
            async with asyncio.timeout(self.client.answer_seconds):
                await self.client.refresh_topology()
            self.running = asyncio.create_task(self.pipeline.run())
            await self.pipeline.call(operations.live_nodes())
        except BaseException as error:
            await self.aclose()
            if isinstance(error, CONNECTION_ERRORS):
                raise BackendUnavailable(failure_reason(error)) from None
            raise

    async def aclose(self) -> None:
        """Fail the pending operations and close the connections."""
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait({self.running})
        await self.client.aclose()

    def publish(
        self, room: str, publication: Publication, *, ephemeral: bool = False
    ) -> asyncio.Future[Position]:
        """Publish to a room; see :meth:`~falcon_pachinko.backends.base.Backend.publish`."""
        data = publication.encode()
        return self.call(operations.publish(hash_tag(room), data, ephemeral=ephemeral))

    def publish_to_nodes(self, publication: Publication) -> asyncio.Future[int]:
        """Publish to all nodes, at most once; return their number."""
        return self.call(operations.send(f"{NODES}:all", publication.encode()))

    async def command(self, publication: Publication, room: str | None = None) -> None:
        """Close connections on all nodes; see :meth:`~falcon_pachinko.backends.base.Backend.command`."""
        await send_command(self.call, Command(publication, room), self.client.answer_seconds)

    async def restrict(self, change: RestrictionChange) -> None:
        """Change a restriction on all nodes; see :meth:`~falcon_pachinko.backends.restrictions.Restrictions.restrict`."""
        await send_restriction(self.call, change, RestrictionTable(), self.client.answer_seconds)

    async def list_restrictions(self) -> list[Restriction]:
        """Return the bans and mutes that Redis has and that are in force, sorted by user."""
        table = RestrictionTable()
        stored = await read_all(self.call)
        return listed(entry for entry in stored.values() if table.is_in_force(entry))

    async def rooms(self, prefix: str) -> list[str]:
        """Return the sorted names of the non-empty rooms that start with a prefix."""
        return await rooms_with_prefix(self.call, prefix)

    def call(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Submit an operation.

        Raises:
            BackendUnavailable: From the future: Redis may have executed the operation or not.
            RuntimeError: The publisher is not open.
        """
        if not self.is_open:
            raise RuntimeError("the publisher is not open")
        return self.pipeline.call(operation)
