"""Versions of personas, and the fields of foreign formats."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXTS = ("name", "emoji", "category", "prompt", "description", "model")
_LISTS = ("capabilities", "tags")

_persona = sa.table(
    "persona",
    sa.column("key", sa.String),
    sa.column("content_hash", sa.String),
    *(sa.column(name, sa.Text) for name in _TEXTS),
    *(sa.column(name, sa.JSON) for name in _LISTS),
)


def upgrade() -> None:
    op.add_column("persona", sa.Column("extras", sa.JSON, nullable=False, server_default="{}"))
    versions = op.create_table(
        "persona_version",
        sa.Column("persona_key", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("persona_key", "number", name="pk_persona_version"),
    )
    now = datetime.now(UTC)
    first = [
        {
            "persona_key": row["key"],
            "number": 1,
            "content_hash": row["content_hash"],
            "content": {name: row[name] for name in (*_TEXTS, *_LISTS)} | {"extras": {}},
            "author": "system",
            "message": "first seen",
            "created_at": now,
        }
        for row in op.get_bind().execute(sa.select(_persona)).mappings()
    ]
    if first:
        op.bulk_insert(versions, first)


def downgrade() -> None:
    op.drop_table("persona_version")
    with op.batch_alter_table("persona") as batch:
        batch.drop_column("extras")
