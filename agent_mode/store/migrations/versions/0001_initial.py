"""Personas, sessions, answers, revision counters."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "persona",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("emoji", sa.Text, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("capabilities", sa.JSON, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("shipped_hash", sa.String(64)),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_persona"),
    )
    op.create_table(
        "session",
        sa.Column("chat_id", sa.String(255), nullable=False),
        sa.Column("active_agent", sa.String(255), nullable=False),
        sa.Column("ui_agent", sa.String(255), nullable=False),
        sa.Column("ui_since", sa.BigInteger, nullable=False),
        sa.Column("agent_history", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("chat_id", name="pk_session"),
    )
    op.create_index("ix_session_updated_at", "session", ["updated_at"])
    op.create_table(
        "answer",
        sa.Column("message_id", sa.String(255), nullable=False),
        sa.Column("chat_id", sa.String(255), nullable=False),
        sa.Column("user_message_id", sa.String(255)),
        sa.Column("agent", sa.String(255), nullable=False),
        sa.Column("ui_agent", sa.String(255), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("voice", sa.String(255)),
        sa.PrimaryKeyConstraint("message_id", name="pk_answer"),
    )
    op.create_index("ix_answer_chat_id", "answer", ["chat_id"])
    op.create_index("ix_answer_at", "answer", ["at"])
    op.create_index("ix_answer_user_message_id_ui_agent", "answer", ["user_message_id", "ui_agent"])
    revisions = op.create_table(
        "revision",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_revision"),
    )
    op.bulk_insert(revisions, [{"name": "personas", "number": 0}])


def downgrade() -> None:
    for table in ("revision", "answer", "session", "persona"):
        op.drop_table(table)
