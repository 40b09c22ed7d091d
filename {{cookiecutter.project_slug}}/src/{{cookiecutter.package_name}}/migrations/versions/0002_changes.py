"""Revisions of messages, reactions to them, and how far users have read."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column and two tables; services of the version before go on with the new schema."""
    key = sa.String(28).with_variant(sa.String(28, collation="C"), "postgresql")
    op.add_column("messages", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "reactions",
        sa.Column(
            "message_id", key, sa.ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("reaction", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, primary_key=True),
    )
    op.create_table(
        "read_markers",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("room", sa.Text, primary_key=True),
        sa.Column("message_id", key, nullable=False),
        sa.Column("marked_at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop them with their data."""
    op.drop_table("read_markers")
    op.drop_table("reactions")
    with op.batch_alter_table("messages") as table:
        table.drop_column("revision")
