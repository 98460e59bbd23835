"""Who resumes a suspended run, and which runs other processes were asked to stop."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("snapshot", sa.Column("claimed_until", sa.DateTime(timezone=True)))
    op.create_table(
        "run_stop",
        sa.Column("run_id", sa.String(255), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_run_stop"),
    )
    op.execute("INSERT INTO revision (name, number) VALUES ('run_stops', 0)")


def downgrade() -> None:
    op.execute("DELETE FROM revision WHERE name = 'run_stops'")
    op.drop_table("run_stop")
    op.drop_column("snapshot", "claimed_until")
