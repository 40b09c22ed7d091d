"""Reactions in the message store."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from falcon_pachinko import MessageError

from .tables import is_present, messages, reactions
from .transactions import Transactions

# The most different reactions to a message.
MAX_REACTIONS = 20


@dataclass(frozen=True, slots=True)
class ReactionChange:
    """A change of the reactions to a message.

    Attributes:
        count: The users who react like this now.
        revision: The revision of the message.
    """

    count: int
    revision: int


@dataclass(frozen=True, slots=True)
class ReactionCount:
    """One kind of reaction to a message: the number of its users, and whether a given one is among them."""

    message_id: str
    reaction: str
    count: int
    is_mine: bool


class ReactionStore(Transactions):
    """Stores the reactions of users to messages."""

    async def react(
        self, room: str, message_id: str, user_id: str, reaction: str, *, on: bool
    ) -> ReactionChange | None:
        """Add a reaction, or take it back; return ``None`` if nothing has changed.

        Raises:
            LookupError: There is no such message in the room, or it has been deleted.
            MessageError: The message has 20 different reactions already.
            StoreUnavailable: The database does not respond or refuses.
        """
        of_message = reactions.c.message_id == message_id
        alike = of_message & (reactions.c.reaction == reaction)
        row = {"message_id": message_id, "reaction": reaction, "user_id": user_id}
        added = self.insert_into(reactions).values(row).on_conflict_do_nothing()
        removed = sa.delete(reactions).where(alike, reactions.c.user_id == user_id)
        change = (added if on else removed).returning(reactions.c.user_id)
        async with self.transaction("write") as connection:
            # NOTE: the lock of this row lets changes of one message wait for each other.
            revised = sa.update(messages).where(is_present(room, message_id))
            revised = revised.values(revision=messages.c.revision + 1)
            found = await connection.execute(revised.returning(messages.c.revision))
            revision = found.scalar_one_or_none()
            if revision is None:
                raise LookupError(message_id)
            if not (await connection.execute(change)).all():
                return None
            kinds = sa.select(sa.func.count(reactions.c.reaction.distinct())).where(of_message)
            if (await connection.execute(kinds)).scalar_one() > MAX_REACTIONS:
                raise MessageError(
                    f"A message has at most {MAX_REACTIONS} different reactions.",
                    code="tooManyReactions",
                )
            count = await connection.execute(sa.select(sa.func.count()).where(alike))
            return ReactionChange(count.scalar_one(), revision)

    async def reactions_to(self, message_ids: Collection[str], user_id: str) -> list[ReactionCount]:
        """Return the reactions to messages, the most frequent first, and whether a user is among them."""
        mine = sa.func.max(sa.case((reactions.c.user_id == user_id, 1), else_=0))
        number = sa.func.count()
        kind = (reactions.c.message_id, reactions.c.reaction)
        query = sa.select(*kind, number, mine).group_by(*kind)
        query = query.where(reactions.c.message_id.in_(message_ids))
        async with self.transaction("read") as connection:
            rows = await connection.execute(query.order_by(number.desc(), reactions.c.reaction))
            return [
                ReactionCount(message_id, text, count, bool(is_mine))
                for message_id, text, count, is_mine in rows
            ]
