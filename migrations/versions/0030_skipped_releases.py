"""Add to bots the release that their organization skips."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and an index of the few bots that skip a release."""
    where = sa.text("skipped_release_id IS NOT NULL")
    op.add_column("bots", sa.Column("skipped_release_id", sa.String(16), nullable=True))
    op.create_index("ix_bots_skipping", "bots", ["skipped_release_id"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drop the index and the column."""
    op.drop_index("ix_bots_skipping", "bots")
    op.drop_column("bots", "skipped_release_id")
