"""Add the table of images that a node pulled only to read their changelog, so that they can be removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table. Images pulled earlier are not recorded and stay on their nodes."""
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
    """Drop the table."""
    op.drop_table("reading_pulls")
