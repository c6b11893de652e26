"""Add an index of the updates that still have a description of their old container."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0024"
branch_labels = None
depends_on = None

_INDEX = "ix_bot_updates_described"


def upgrade() -> None:
    """Create the index."""
    where = sa.text("saved_container IS NOT NULL")
    op.create_index(_INDEX, "bot_updates", ["cleaned_at"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drop the index."""
    op.drop_index(_INDEX, "bot_updates")
