"""Which node pulled an image only for its changelog to be read, so that the image can be removed again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table. What was pulled before is not known, and stays."""
    op.create_table(
        "reading_pulls",
        sa.Column("node_id", sa.String(length=16), nullable=False),
        sa.Column("release_id", sa.String(length=16), nullable=False),
        sa.Column("pulled_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_reading_pulls_node_id_nodes"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_reading_pulls_release_id_releases"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", "release_id", name=op.f("pk_reading_pulls")),
    )


def downgrade() -> None:
    """Forget what was pulled."""
    op.drop_table("reading_pulls")
