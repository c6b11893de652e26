"""Add to rollouts how their bots were selected, and when an operator skipped a pause."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("rollouts") as batch:
        batch.add_column(sa.Column("pause_skipped_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(sa.Column("selection", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("rollouts") as batch:
        batch.drop_column("selection")
        batch.drop_column("pause_skipped_at")
