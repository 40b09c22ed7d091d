"""The table of messages."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and its indexes."""
    # NOTE: bytewise order, which PostgreSQL's own collations do not have.
    key = sa.String(28).with_variant(sa.String(28, collation="C"), "postgresql")
    op.create_table(
        "messages",
        sa.Column("id", key, primary_key=True),
        sa.Column("room", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("edited_at", sa.BigInteger),
        sa.Column("deleted_at", sa.BigInteger),
        sa.Column("reply_to", key),
        sa.Column("client_id", sa.Text),
        sa.Column("ref", sa.Text),
    )
    op.create_index("messages_room_id", "messages", ["room", "id"])
    op.create_index("messages_client_id_ref", "messages", ["client_id", "ref"], unique=True)


def downgrade() -> None:
    """Drop the table with all messages."""
    op.drop_table("messages")
