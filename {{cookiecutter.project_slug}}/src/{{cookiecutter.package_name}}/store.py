"""The store of messages. Another one needs only the methods of :class:`MessageStore`.

A message is stored before it is published, so that none exists in a cache only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa

from .database import prepare_schema
from .group_commit import GroupCommit
from .message_ids import MessageIds, lowest_id, time_ms
from .records import NewMessage, StoredMessage, StoreUnavailable
from .stored_reactions import ReactionStore
from .tables import is_in, is_present, messages, read_markers

# The most markers of a user; the oldest ones are removed.
MAX_MARKERS = 500
# More unread messages of a room are not counted.
MAX_UNREAD = 100


class MessageStore(ReactionStore):
    """Stores messages in SQLite or PostgreSQL.

    Messages that are added while a transaction is being committed share the next one. An operation takes 10 s at
    most, and raises :class:`StoreUnavailable` if the database does not respond or refuses.

    Args:
        url: ``sqlite:///path/of/a/file`` or ``postgresql://...``.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.ids = MessageIds()
        self.commits = GroupCommit(self.write, StoreUnavailable)
        self.insert = (
            self.insert_into(messages)
            .on_conflict_do_nothing(index_elements=["client_id", "ref"])
            .returning(messages.c.id)
        )

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

    async def get_all(self, room: str, message_ids: Collection[str]) -> list[StoredMessage]:
        """Return those of some messages that are in a room and have not been deleted."""
        found = is_in(room) & messages.c.id.in_(message_ids)
        return await self.fetch(sa.select(messages).where(found))

    async def page(
        self, room: str, before: str | None = None, limit: int = 50
    ) -> list[StoredMessage]:
        """Return the last messages of a room that have not been deleted, the oldest first.

        Args:
            room: The room.
            before: Only messages with a lower id than this.
            limit: The most messages.
        """
        query = sa.select(messages).where(is_in(room))
        if before is not None:
            query = query.where(messages.c.id < before)
        return (await self.fetch(query.order_by(messages.c.id.desc()).limit(limit)))[::-1]

    async def edit(
        self, room: str, message_id: str, user_id: str, text: str
    ) -> StoredMessage | None:
        """Replace the text of a message, and return it.

        Returns ``None`` if this user has sent no such message to the room, or it has been deleted.
        """
        return await self.change(room, message_id, user_id, text=text, edited_at=time_ms())

    async def delete(
        self, room: str, message_id: str, user_id: str | None = None
    ) -> StoredMessage | None:
        """Mark a message as deleted, empty its text, and return it.

        Returns ``None`` if there is no such message in the room, or it has been deleted. With a user id only a
        message of this user is deleted; without one, for moderators, any.
        """
        return await self.change(room, message_id, user_id, text="", deleted_at=time_ms())

    async def mark_read(self, room: str, user_id: str, message_id: str) -> bool:
        """Record that a user has read a room up to a message; return whether that is further than before."""
        row = {"user_id": user_id, "room": room, "message_id": message_id, "marked_at": time_ms()}
        statement = self.insert_into(read_markers).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=["user_id", "room"],
            set_={name: statement.excluded[name] for name in ("message_id", "marked_at")},
            where=statement.excluded.message_id > read_markers.c.message_id,
        )
        of_user = read_markers.c.user_id == user_id
        kept = sa.select(read_markers.c.room).where(of_user)
        kept = kept.order_by(read_markers.c.marked_at.desc()).limit(MAX_MARKERS)
        async with self.transaction("write") as connection:
            advanced = (await connection.execute(statement.returning(read_markers.c.room))).all()
            await connection.execute(
                sa.delete(read_markers).where(of_user & read_markers.c.room.not_in(kept))
            )
            return bool(advanced)

    async def read_marker(self, room: str, user_id: str) -> str | None:
        """Return the id of the message up to which a user has read a room; ``None`` for no marker."""
        found = (read_markers.c.user_id == user_id) & (read_markers.c.room == room)
        async with self.transaction("read") as connection:
            query = sa.select(read_markers.c.message_id).where(found)
            return (await connection.execute(query)).scalar()

    async def unread(self, user_id: str) -> dict[str, int]:
        """Return the rooms that a user has read, each with the number of later messages of others, at most 100."""
        later = (
            is_in(read_markers.c.room)
            & (messages.c.id > read_markers.c.message_id)
            & (messages.c.user_id != user_id)
        )
        some = sa.select(messages.c.id).where(later).limit(MAX_UNREAD).correlate(read_markers)
        count = sa.select(sa.func.count()).select_from(some.subquery()).scalar_subquery()
        query = sa.select(read_markers.c.room, count).where(read_markers.c.user_id == user_id)
        async with self.transaction("read") as connection:
            return dict(iter(await connection.execute(query)))

    async def remove_older_than(self, sent_before_ms: int, limit: int = 1_000) -> int:
        """Remove the oldest messages that were sent before a time, at most ``limit``; return their number."""
        old = sa.select(messages.c.id).where(messages.c.id < lowest_id(sent_before_ms))
        oldest = old.order_by(messages.c.id).limit(limit)
        async with self.transaction("write") as connection:
            removed = await connection.execute(sa.delete(messages).where(messages.c.id.in_(oldest)))
            return removed.rowcount

    async def change(
        self, room: str, message_id: str, user_id: str | None, **values: object
    ) -> StoredMessage | None:
        found = is_present(room, message_id)
        if user_id is not None:
            found &= messages.c.user_id == user_id
        values["revision"] = messages.c.revision + 1
        statement = sa.update(messages).where(found).values(values).returning(*messages.c)
        return next(iter(await self.fetch(statement)), None)

    async def fetch(self, statement: sa.Select[Any] | sa.UpdateBase) -> list[StoredMessage]:
        async with self.transaction("read" if statement.is_select else "write") as connection:
            rows = await connection.execute(statement)
            return [StoredMessage(**row._mapping) for row in rows]

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
