"""By which way something was changed: the page, the API, a chat, Open WebUI's Pipelines tab, a command."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # All that was recorded before was done on the page.
    op.add_column("audit_record", sa.Column("way", sa.String(64), nullable=False, server_default="page"))


def downgrade() -> None:
    op.drop_column("audit_record", "way")
