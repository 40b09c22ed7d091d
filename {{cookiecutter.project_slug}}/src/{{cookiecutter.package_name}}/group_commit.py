"""Group commit: rows of many callers are written in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Row = TypeVar("Row")

# The most rows in a transaction, and the most that wait for one.
MAX_BATCH = 500
MAX_PENDING = 10_000


class GroupCommit(Generic[Row]):
    """Writes rows in batches: those of one iteration of the event loop, or of the time of the last batch.

    Args:
        write: Writes a batch in one transaction and returns its rows as they are stored, in the same order.
        outage: The exception for callers while the database is unavailable. Raised by ``write``, it
            concerns all rows that wait; any other exception only those of the batch.
    """

    def __init__(
        self, write: Callable[[list[Row]], Awaitable[list[Row]]], outage: type[Exception]
    ) -> None:
        self.write = write
        self.outage = outage
        self.pending: list[tuple[Row, asyncio.Future[Row]]] = []
        self.wake: asyncio.Event
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task that writes."""
        self.wake = asyncio.Event()
        self.task = asyncio.create_task(self.write_batches(), name="group commit")

    async def stop(self) -> None:
        """Stop writing; rows that wait are not written, and their callers get the exception of an outage."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})
            self.task = None

    async def add(self, row: Row) -> Row:
        """Write a row, and return it as it is stored; a cancelled call may have written it.

        Raises:
            Exception: The exception of an outage: the database is unavailable, nothing writes, or 10,000 rows
                wait already.
        """
        if self.task is None or len(self.pending) >= MAX_PENDING:
            raise self.outage()
        future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self.pending.append((row, future))
        self.wake.set()
        return await future

    async def write_batches(self) -> None:
        """Write what waits, until it is cancelled."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            while batch := self.pending[:MAX_BATCH]:
                del self.pending[:MAX_BATCH]
                try:
                    rows = await self.write([row for row, _ in batch])
                except (self.outage, asyncio.CancelledError) as error:
                    self.fail(batch + self.pending, self.outage)
                    self.pending.clear()
                    if isinstance(error, asyncio.CancelledError):
                        raise
                except Exception as error:
                    self.fail(batch, lambda error=error: error)  # type: ignore[misc]
                else:
                    for (_, future), row in zip(batch, rows, strict=True):
                        if not future.done():  # its caller has been cancelled
                            future.set_result(row)

    def fail(
        self, batch: list[tuple[Row, asyncio.Future[Row]]], reason: Callable[[], Exception]
    ) -> None:
        """Raise an exception in the callers of a batch."""
        for _, future in batch:
            if not future.done():
                future.set_exception(reason())
