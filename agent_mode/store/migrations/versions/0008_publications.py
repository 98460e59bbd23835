"""What was published in Open WebUI, and what stood there before."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "publication",
        sa.Column("openwebui", sa.String(255), nullable=False),
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("ours", sa.JSON, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("openwebui", "model_id", name="pk_publication"),
    )


def downgrade() -> None:
    op.drop_table("publication")
