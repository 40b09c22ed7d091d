"""Transactions of the message store: bounded in time, with one line in the log for an outage and for its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from .database import failure_text, open_engine
from .records import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

logger = logging.getLogger(__name__)

# The bound of each transaction, the wait for a connection and for locks included.
OPERATION_SECONDS = 10.0
READERS = 3


class Transactions:
    """The transactions of one database.

    Args:
        url: ``sqlite:///path/of/a/file`` or ``postgresql://...``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = open_engine(url)
        self.outages: dict[str, str] = {}
        # Fewer than the connections of the pool, so that many readers never keep a message from being stored.
        self.reading = asyncio.Semaphore(READERS)

    @property
    def outage(self) -> str:
        """Why the last write or the last read has failed; empty if none has."""
        return "; ".join(sorted(set(self.outages.values())))

    def insert_into(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """Return an insertion that can have ``ON CONFLICT``."""
        # The engine has imported its own dialect; the other one stays unloaded.
        if self.engine.dialect.name == "postgresql":
            from sqlalchemy.dialects import postgresql

            return postgresql.insert(table)
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)

    @asynccontextmanager
    async def transaction(
        self, purpose: Literal["read", "write"]
    ) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction, which is committed at the end of the block.

        The first failure of an outage and its end are logged, each on one line.

        Raises:
            StoreUnavailable: The database does not respond or refuses.
        """
        try:
            turn = self.reading if purpose == "read" else nullcontext()
            async with asyncio.timeout(OPERATION_SECONDS), turn, self.engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            if purpose not in self.outages:
                logger.error("the database is unavailable (%s): %s", purpose, failure_text(error))
            self.outages[purpose] = failure_text(error)
            raise StoreUnavailable from None
        if self.outages.pop(purpose, None):
            logger.warning("the database has recovered (%s)", purpose)
