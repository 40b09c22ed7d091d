"""The tables of the message store; a change of a table needs a migration."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

# A Unicode noncharacter, which no text should contain. A text that does is stored without a loss, too.
ESCAPE = "\ufdd0"


class ChatText(sa.TypeDecorator[str]):
    """A text with any character; PostgreSQL itself refuses U+0000."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Escape U+0000."""
        if value and ("\0" in value or ESCAPE in value):
            return value.replace(ESCAPE, f"{ESCAPE}1").replace("\0", f"{ESCAPE}0")
        return value

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Restore U+0000."""
        if value and ESCAPE in value:
            return value.replace(f"{ESCAPE}0", "\0").replace(f"{ESCAPE}1", ESCAPE)
        return value


class MessageId(ChatText):
    """A message id: 28 hexadecimal digits, compared bytewise by every database."""

    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Return the type of the column."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(sa.String(28, collation=collation))


metadata = sa.MetaData()
# Times are Unix milliseconds.
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", MessageId, primary_key=True),
    sa.Column("room", ChatText, nullable=False),
    sa.Column("user_id", ChatText, nullable=False),
    sa.Column("user_name", ChatText, nullable=False),
    sa.Column("text", ChatText, nullable=False),
    sa.Column("sent_at", sa.BigInteger, nullable=False),
    sa.Column("edited_at", sa.BigInteger),
    sa.Column("deleted_at", sa.BigInteger),
    sa.Column("reply_to", MessageId),
    sa.Column("client_id", ChatText),
    sa.Column("ref", ChatText),
    sa.Column("revision", sa.Integer, nullable=False, server_default="0"),
    sa.Index("messages_room_id", "room", "id"),
    sa.Index("messages_client_id_ref", "client_id", "ref", unique=True),
)
# The ids of messages up to which users have read rooms.
read_markers = sa.Table(
    "read_markers",
    metadata,
    sa.Column("user_id", ChatText, primary_key=True),
    sa.Column("room", ChatText, primary_key=True),
    sa.Column("message_id", MessageId, nullable=False),
    sa.Column("marked_at", sa.BigInteger, nullable=False),
)
reactions = sa.Table(
    "reactions",
    metadata,
    sa.Column(
        "message_id", MessageId, sa.ForeignKey(messages.c.id, ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("reaction", ChatText, primary_key=True),
    sa.Column("user_id", ChatText, primary_key=True),
)


def is_in(room: str | sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition of messages: they are in the room, and have not been deleted."""
    return (messages.c.room == room) & messages.c.deleted_at.is_(None)


def is_present(room: str, message_id: str) -> sa.ColumnElement[bool]:
    """Return the condition of a message: it is in the room, and has not been deleted."""
    return (messages.c.id == message_id) & is_in(room)
