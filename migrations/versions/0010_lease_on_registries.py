"""Drop the lease on the poll of an image. A lease on its registry, in the table of leases, replaces it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("polled_images") as polled_images:
        polled_images.drop_column("polling_until")


def downgrade() -> None:
    """Add the column."""
    op.add_column("polled_images", sa.Column("polling_until", sa.DateTime(timezone=True), nullable=True))
