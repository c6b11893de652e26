"""Store the algorithm with the checksum of a snapshot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rename the column and write the algorithm of the existing checksums."""
    with op.batch_alter_table("snapshots") as snapshots:
        snapshots.alter_column(
            "sha256", new_column_name="checksum", existing_type=sa.String(64), type_=sa.String(100)
        )
    op.execute("UPDATE snapshots SET checksum = 'sha256:' || checksum WHERE checksum IS NOT NULL")


def downgrade() -> None:
    """Remove the algorithm. Archives of another algorithm count as not verified, because SHA-256 is assumed again."""
    op.execute("UPDATE snapshots SET checksum = NULL WHERE checksum NOT LIKE 'sha256:%'")
    op.execute("UPDATE snapshots SET checksum = substr(checksum, 8) WHERE checksum IS NOT NULL")
    with op.batch_alter_table("snapshots") as snapshots:
        snapshots.alter_column(
            "checksum", new_column_name="sha256", existing_type=sa.String(100), type_=sa.String(64)
        )
