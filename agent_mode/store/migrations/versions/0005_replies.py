"""What each of several models side by side answered."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reply",
        sa.Column("message_id", sa.String(255), nullable=False),
        sa.Column("chat_id", sa.String(255), nullable=False),
        sa.Column("user_message_id", sa.String(255), nullable=False),
        sa.Column("parent_id", sa.String(255)),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_reply"),
    )
    op.create_index("ix_reply_chat_id", "reply", ["chat_id"])
    op.create_index("ix_reply_at", "reply", ["at"])


def downgrade() -> None:
    op.drop_table("reply")
