"""The store of messages. Another one needs only the methods of :class:`MessageStore`.

A message is stored before it is published, so that none exists in a cache only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from falcon_pachinko import MessageError

from .database import failure_text, open_engine, prepare_schema
from .group_commit import GroupCommit
from .message_ids import MessageIds, lowest_id, time_ms
from .tables import NewMessage, StoredMessage, messages

logger = logging.getLogger(__name__)

# The bound of each operation, the wait for a connection and for locks included.
OPERATION_SECONDS = 10.0
READERS = 3


class StoreUnavailable(MessageError):
    """The database does not respond, or refuses; a message may have been stored all the same.

    Raised out of a handler, it is sent as ``serverError``; the store has logged the cause.
    """

    def __init__(self) -> None:
        super().__init__("This cannot be done right now: try again.", code="unavailable")


class MessageStore:
    """Stores messages in SQLite or PostgreSQL.

    Messages that are added while a transaction is being committed share the next one. An operation takes 10 s at
    most, and raises :class:`StoreUnavailable` if the database does not respond or refuses.

    Args:
        url: ``sqlite:///path/of/a/file`` or ``postgresql://...``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = open_engine(url)
        self.outages: dict[str, str] = {}
        # Fewer than the connections of the pool, so that many readers never keep a message from being stored.
        self.reading = asyncio.Semaphore(READERS)
        self.ids = MessageIds()
        self.commits = GroupCommit(self.write, StoreUnavailable)
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        self.insert = (
            dialect.insert(messages)
            .on_conflict_do_nothing(index_elements=["client_id", "ref"])
            .returning(messages.c.id)
        )

    @property
    def outage(self) -> str:
        """Why the last write or the last read has failed; empty if none has."""
        return "; ".join(sorted(set(self.outages.values())))

    async def open(self) -> None:
        """Connect, and migrate the schema if it is behind.

        Raises:
            ConfigurationError: The database is not reachable or not usable.
        """
        await prepare_schema(self.url)
        self.commits.start()

    async def aclose(self) -> None:
        """End the operations and the connections; messages that wait are not stored."""
        await self.commits.stop()
        await self.engine.dispose()

    async def add(
        self, message: NewMessage, client: str | None = None, ref: str | None = None
    ) -> StoredMessage:
        """Store a message; it is committed when this returns. A cancelled call may have stored it.

        Args:
            message: The message.
            client: The id of the client that sends it; with ``ref`` it identifies a request.
            ref: The client's ``ref`` of the request. A second message with both is not stored: the first one
                is returned, with ``existed``.

        Raises:
            StoreUnavailable: The database does not respond or refuses, or 10,000 messages wait for it.
            ValueError: A text contains a lone surrogate.
        """
        "".join((message.room, message.user_name, message.text, client or "", ref or "")).encode()
        sent_at = time_ms()
        return await self.commits.add(
            StoredMessage(
                id=self.ids.next(sent_at),
                sent_at=sent_at,
                client_id=client,
                ref=ref,
                **msgspec.structs.asdict(message),
            )
        )

    async def get(self, message_id: str) -> StoredMessage | None:
        """Return a message, also a deleted one; ``None`` if there is none."""
        found = await self.fetch(sa.select(messages).where(messages.c.id == message_id))
        return found[0] if found else None

    async def page(
        self, room: str, before: str | None = None, limit: int = 50
    ) -> list[StoredMessage]:
        """Return the last messages of a room that have not been deleted, the oldest first.

        Args:
            room: The room.
            before: Only messages with a lower id than this.
            limit: The most messages.
        """
        in_room = (messages.c.room == room) & messages.c.deleted_at.is_(None)
        query = sa.select(messages).where(in_room)
        if before is not None:
            query = query.where(messages.c.id < before)
        return (await self.fetch(query.order_by(messages.c.id.desc()).limit(limit)))[::-1]

    async def edit(self, message_id: str, user_id: str, text: str) -> StoredMessage | None:
        """Replace the text of a message, and return it.

        Returns ``None`` if this user has sent no such message, or it has been deleted.
        """
        return await self.change(message_id, user_id, text=text, edited_at=time_ms())

    async def delete(self, message_id: str, user_id: str | None = None) -> StoredMessage | None:
        """Mark a message as deleted, empty its text, and return it.

        Returns ``None`` if there is no such message, or it has been deleted. With a user id only a message of
        this user is deleted; without one, for moderators, any.
        """
        return await self.change(message_id, user_id, text="", deleted_at=time_ms())

    async def remove_older_than(self, sent_before_ms: int, limit: int = 1_000) -> int:
        """Remove the oldest messages that were sent before a time, at most ``limit``; return their number."""
        old = sa.select(messages.c.id).where(messages.c.id < lowest_id(sent_before_ms))
        oldest = old.order_by(messages.c.id).limit(limit)
        async with self.transaction("write") as connection:
            removed = await connection.execute(sa.delete(messages).where(messages.c.id.in_(oldest)))
            return removed.rowcount

    async def change(
        self, message_id: str, user_id: str | None, **values: object
    ) -> StoredMessage | None:
        found = (messages.c.id == message_id) & messages.c.deleted_at.is_(None)
        if user_id is not None:
            found &= messages.c.user_id == user_id
        statement = sa.update(messages).where(found).values(values).returning(*messages.c)
        return next(iter(await self.fetch(statement)), None)

    async def fetch(self, statement: sa.Select[Any] | sa.UpdateBase) -> list[StoredMessage]:
        async with self.transaction("read" if statement.is_select else "write") as connection:
            rows = await connection.execute(statement)
            return [StoredMessage(**row._mapping) for row in rows]

    @asynccontextmanager
    async def transaction(self, purpose: str) -> AsyncIterator[AsyncConnection]:
        """A transaction; the first failure of an outage and its end are logged, each on one line."""
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

    async def write(self, batch: list[StoredMessage]) -> list[StoredMessage]:
        """Insert messages; for one whose request has been stored before, return that one in its place."""
        names = messages.c.keys()
        rows = [{name: getattr(message, name) for name in names} for message in batch]
        async with self.transaction("write") as connection:
            inserted = set((await connection.execute(self.insert, rows)).scalars())
            if len(inserted) == len(batch):
                return batch
            request = sa.tuple_(messages.c.client_id, messages.c.ref)
            known = [(each.client_id, each.ref) for each in batch if each.id not in inserted]
            found = await connection.execute(sa.select(messages).where(request.in_(known)))
            first = {
                (row.client_id, row.ref): StoredMessage(**row._mapping, existed=True)
                for row in found
            }
        return [each if each.id in inserted else first[each.client_id, each.ref] for each in batch]
