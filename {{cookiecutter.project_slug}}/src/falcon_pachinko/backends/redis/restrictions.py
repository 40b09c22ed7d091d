"""The restrictions of a node: a copy of those in Redis or Valkey, compared at each renewal."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from ...errors import TooManyRestrictions
from ...support.tasks import ignore
from ..base import Node
from ..restriction_entry import RestrictionChange, RestrictionEntry
from ..restriction_table import RestrictionTable
from . import operations
from .commands import wait_confirmed
from .operations import Caller
from .operations.restrictions import slices
from .pipeline import Pipeline
from .script import ROOM_TTL_MS

logger = logging.getLogger(__name__)


async def send_restriction(
    call: Caller,
    change: RestrictionChange,
    table: RestrictionTable,
    seconds: float,
    node: str | None = None,
) -> None:
    """Change a restriction, and wait until all live nodes have applied it.

    Args:
        call: Executes an operation.
        change: The change.
        table: What the caller knows.
        seconds: The time that the nodes have.
        node: The node that sends it; ``None`` for a publisher.

    Raises:
        BackendUnavailable: A node has not confirmed it; it applies the change when it has recovered.
        TooManyRestrictions: There are too many; nothing has changed.
    """

    def operation() -> operations.Operation[operations.Restricted]:
        return operations.restrict(change, table.entries.get(change.field), table.now, node)

    reply = await call(operation())
    if not reply.identifier:
        await drop_old(call, await read_all(call), table)
        reply = await call(operation())
    if not reply.identifier:
        raise TooManyRestrictions(reply.excess)
    await wait_confirmed(call, reply.identifier, reply.nodes, seconds, node)


async def read_pages(call: Caller) -> AsyncIterator[Sequence[RestrictionEntry]]:
    """Yield the entries in Redis, some of them perhaps twice; other operations are executed in between."""
    cursor = ""
    while cursor != "0":
        page = await call(operations.read_restrictions(cursor or "0"))
        yield page.entries
        cursor = page.cursor


async def read_all(call: Caller) -> dict[str, RestrictionEntry]:
    """Return all entries in Redis by name."""
    return {entry.field: entry async for entries in read_pages(call) for entry in entries}


async def drop_old(
    call: Caller, stored: dict[str, RestrictionEntry], table: RestrictionTable
) -> bool:
    """Remove entries from Redis that have no effect any more; return whether there were any."""
    old = [entry for entry in stored.values() if table.is_over(entry)]
    for part in slices(old):
        await call(operations.drop_restrictions(part))
    return bool(old)


class RedisRestrictions:
    """The restrictions of a node.

    Redis has the same entries as the nodes, and a digest of them. Where the digests differ, at the start, after an
    outage or at a renewal, the node takes over later entries from Redis, and stores there those that Redis lacks. Of
    two versions of an entry the later one remains everywhere.

    Attributes:
        table: The entries.
        node: Closes the connections that an entry concerns.

    Args:
        pipeline: Executes operations.
        name: The name of the node.
        seconds: The time that nodes have for a change.
        table: The entries that the process knows from an earlier run.
    """

    node: Node

    def __init__(
        self, pipeline: Pipeline, name: str, seconds: float, table: RestrictionTable
    ) -> None:
        self.pipeline = pipeline
        self.name = name
        self.seconds = seconds
        self.table = table
        # NOTE: a node that is built again after its end has those of its earlier run.
        table.is_known = bool(table)
        self.unexplained = 0

    async def restrict(self, change: RestrictionChange) -> None:
        """Change an entry on all nodes."""
        call = self.pipeline.call
        await send_restriction(call, change, self.table, self.seconds, self.name)

    def on_message(self, head: str, data: bytes) -> None:
        """Apply a change that has just been made, and confirm it."""
        field, _, value = data.decode().rpartition("\n")
        entry = RestrictionEntry.decode(field, value)
        if self.table.put(entry):
            self.node.on_restriction(entry)
        # NOTE: also during the recovery from an outage, when the node has its channels already.
        self.pipeline.submit(operations.confirm(self.name, head.partition(":")[2]), None, ignore)

    async def renew(self, digest: str) -> None:
        """Make the node and Redis agree, if their digests differ.

        Args:
            digest: The digest in Redis.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        call = self.pipeline.call
        for part in slices(self.table.purge()):
            await call(operations.drop_restrictions(part))
            digest = ""
        # NOTE: a change may be on its way to this node.
        if (
            digest == self.digest
            or await call(operations.restrictions_digest()) == self.digest
            or await self._sync()
        ):
            self.unexplained = 0
        else:
            await self._repair()
        self.table.is_known = True

    @property
    def digest(self) -> str:
        """The digest of the node's entries, as Redis has it."""
        count = len(self.table.entries)
        return f"{self.table.digest} {count + 1 if count else 0}"

    async def _repair(self) -> None:
        """Replace what Redis has, if it has the same entries twice in a row, but another digest of them.

        The digest, or a field that is no entry, is damaged then. A change may have been made during the first
        comparison.
        """
        self.unexplained += 1
        if self.unexplained > 1:
            logger.warning(
                "Redis: the digest of the restrictions is not theirs: they are stored again"
            )
            await self.pipeline.call(operations.delete_restrictions())
            await self._store(list(self.table.entries.values()))

    async def _sync(self) -> bool:
        """Exchange the later entries; return whether there were any."""
        call, table = self.pipeline.call, self.table
        changed = False
        stored: dict[str, RestrictionEntry] = {}
        async for entries in read_pages(call):
            stored.update((entry.field, entry) for entry in entries)
            for entry in entries:
                if not table.is_over(entry) and table.put(entry):
                    changed = True
                    self.node.on_restriction(entry)
        changed = await drop_old(call, stored, table) or changed
        missing = [
            entry for entry in table.entries.values() if entry.replaces(stored.get(entry.field))
        ]
        await self._store(missing)
        return changed or bool(missing)

    async def _store(self, entries: Sequence[RestrictionEntry]) -> None:
        """Store entries in Redis that are later than those there."""
        call, table = self.pipeline.call, self.table
        for part in slices(entries):
            ttl = max(entry.kept_until for entry in part) - table.now + ROOM_TTL_MS
            await call(operations.merge_restrictions(part, ttl))
