"""The restrictions of a single process, kept in a file over a restart if there is one."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from ..errors import BackendUnavailable, TooManyRestrictions
from .base import Node
from .lease import CURRENT_LEASE, check_lease
from .restriction_entry import MAX_RESTRICTIONS, RestrictionChange
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
        self.changes = 0

    async def read_restrictions(self) -> None:
        """Read the file.

        Raises:
            ConfigurationError: It cannot be read, or is not valid.
        """
        if self.state_file is not None:
            for entry in await asyncio.to_thread(self.state_file.read):
                self.restrictions.put(entry)

    async def restrict(self, change: RestrictionChange) -> None:
        """Change an entry, and store all of them in the file; an error there is raised after the change."""
        check_lease(CURRENT_LEASE.get())
        table = self.restrictions
        table.purge()
        count = len(table.entries)
        if count >= MAX_RESTRICTIONS and change.field not in table.entries:
            raise TooManyRestrictions(count)
        entry = table.change(change)
        table.put(entry)
        self.node.on_restriction(entry)
        if self.state_file is None:
            return
        self.changes += 1
        entries = tuple(table.entries.values())
        try:
            await asyncio.to_thread(self.state_file.write, self.changes, entries)
        except OSError as error:
            reason = f"{change.kind}: applied, but not stored in {self.state_file.path}: {error}"
            logger.error("%s", reason)
            raise BackendUnavailable(reason) from None
