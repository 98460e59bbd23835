"""Agents with their versions, runs, snapshots of runs, and users' credentials."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "agent",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("agent_type", sa.String(64), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("access", sa.String(16), nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("search", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("valves", sa.JSON, nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent"),
    )
    op.create_table(
        "agent_version",
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "number", name="pk_agent_version"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.String(255), nullable=False),
        sa.Column("parent_id", sa.String(255)),
        sa.Column("agent", sa.String(255), nullable=False),
        sa.Column("agent_type", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("chat_id", sa.String(255)),
        sa.Column("message_id", sa.String(255)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("usage", sa.JSON, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("tool_calls", sa.JSON, nullable=False),
        sa.Column("trace", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
    )
    op.create_index("ix_run_started_at", "run", ["started_at"])
    for column in ("parent_id", "agent", "user_id", "chat_id", "state"):
        op.create_index(f"ix_run_{column}_started_at", "run", [column, "started_at"])
    op.create_table(
        "snapshot",
        sa.Column("run_id", sa.String(255), nullable=False),
        sa.Column("agent", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("chat_id", sa.String(255)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_snapshot"),
    )
    op.create_index("ix_snapshot_created_at", "snapshot", ["created_at"])
    op.create_table(
        "credential",
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_credential"),
    )
    revisions = sa.table("revision", sa.column("name", sa.String), sa.column("number", sa.Integer))
    op.bulk_insert(revisions, [{"name": "agents", "number": 0}])


def downgrade() -> None:
    for table in ("credential", "snapshot", "run", "agent_version", "agent"):
        op.drop_table(table)
    op.execute("DELETE FROM revision WHERE name = 'agents'")
