"""The restrictions of a single process, kept in a file over a restart if there is one."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from ..errors import BackendUnavailable, TooManyRestrictions
from .base import Node
from .lease import CURRENT_LEASE, check_lease
from .restriction_entry import MAX_RESTRICTIONS, MAX_WITH_REVOCATIONS, RestrictionChange
from .restriction_table import RestrictionTable
from .restrictions import Restrictions
from .state_file import StateFile

logger = logging.getLogger(__name__)


class MemoryRestrictions(Restrictions):
    """Restrictions that apply at once.

    Args:
        state_file: The file; ``None`` to forget all restrictions with the process.
    """

    node: Node

    def __init__(self, state_file: Path | None) -> None:
        self.restrictions = RestrictionTable()
        self.state_file = None if state_file is None else StateFile(state_file)
        # Changes are numbered: how many there were, and how many of them the last attempt to write was for.
        self.changes = self.attempted = 0
        self.failure: OSError | None = None
        self.writing = asyncio.Lock()

    async def read_restrictions(self) -> None:
        """Read the file.

        Raises:
            ConfigurationError: It cannot be read, or is not valid.
        """
        self.writing = asyncio.Lock()  # of this event loop
        if self.state_file is not None:
            for entry in await asyncio.to_thread(self.state_file.read):
                self.restrictions.put(entry)

    async def restrict(self, change: RestrictionChange) -> None:
        """Change an entry, and store all of them in the file; an error there is raised after the change."""
        check_lease(CURRENT_LEASE.get())
        table = self.restrictions
        table.purge()
        count = len(table.entries)
        if (
            count >= (MAX_WITH_REVOCATIONS if change.extends else MAX_RESTRICTIONS)
            and change.field not in table.entries
        ):
            raise TooManyRestrictions(count)
        entry = table.change(change)
        table.put(entry)
        self.node.on_restriction(entry)
        if self.state_file is None:
            return
        self.changes += 1
        await self._write(self.state_file, self.changes)
        if self.failure is not None:
            reason = (
                f"{change.kind}: applied, but not stored in {self.state_file.path}: {self.failure}"
            )
            logger.error("%s", reason)
            raise BackendUnavailable(reason)

    async def _write(self, file: StateFile, change: int) -> None:
        """Return once the file has a change with this number, or an attempt to write it has failed.

        PERF: the whole file is written. Changes that are made meanwhile share the next writing.
        """
        async with self.writing:
            if self.attempted < change:
                number, entries = self.changes, tuple(self.restrictions.entries.values())
                failure = None
                try:
                    await asyncio.to_thread(file.write, number, entries)
                except OSError as error:
                    failure = error
                self.attempted, self.failure = number, failure
