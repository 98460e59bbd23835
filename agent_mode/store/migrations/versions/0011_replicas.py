"""Which processes are alive, and which one a run goes on in."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "replica",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replica"),
    )
    op.add_column("run", sa.Column("replica", sa.String(64)))


def downgrade() -> None:
    op.drop_column("run", "replica")
    op.drop_table("replica")
