"""Whose the records of chats are."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KEYS = {"session": "chat_id", "answer": "message_id", "reply": "message_id"}


def upgrade() -> None:
    for table, key in _KEYS.items():
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("owner", sa.String(255), nullable=False, server_default=""))
            batch.drop_constraint(f"pk_{table}", type_="primary")
            batch.create_primary_key(f"pk_{table}", [key, "owner"])


def downgrade() -> None:
    for table, key in _KEYS.items():
        # One record of each chat and message can stay.
        op.execute(
            f"DELETE FROM {table} WHERE EXISTS (SELECT 1 FROM {table} AS other "
            f"WHERE other.{key} = {table}.{key} AND other.owner > {table}.owner)"
        )
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(f"pk_{table}", type_="primary")
            batch.drop_column("owner")
            batch.create_primary_key(f"pk_{table}", [key])
