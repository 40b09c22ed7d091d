"""Transactions of the message store: bounded in time, with one line in the log for an outage and for its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from falcon_pachinko import MessageError

from .database import failure_text, open_engine

logger = logging.getLogger(__name__)

# The bound of each transaction, the wait for a connection and for locks included.
OPERATION_SECONDS = 10.0
READERS = 3


class StoreUnavailable(MessageError):
    """The database does not respond, or refuses; a change may have been stored all the same.

    Raised out of a handler, it is sent as ``serverError``; the cause has been logged.
    """

    def __init__(self) -> None:
        super().__init__("This cannot be done right now: try again.", code="unavailable")


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
        if self.engine.dialect.name == "postgresql":
            return postgresql.insert(table)
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
