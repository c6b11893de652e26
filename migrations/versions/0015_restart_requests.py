"""Remember which bots have to be restarted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column of requested restarts."""
    op.add_column("bots", sa.Column("restart_requested_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("bots") as batch:
        batch.drop_column("restart_requested_at")
