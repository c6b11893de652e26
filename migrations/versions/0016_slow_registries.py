"""Mark the images of registries that were too slow for a quick poll."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. The next polls find out which registries are slow."""
    with op.batch_alter_table("polled_images") as polled_images:
        polled_images.add_column(sa.Column("is_slow", sa.Boolean(), server_default=sa.false(), nullable=False))
    with op.batch_alter_table("polled_images") as polled_images:
        polled_images.alter_column("is_slow", server_default=None)


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("polled_images") as polled_images:
        polled_images.drop_column("is_slow")
