"""Add indexes that contain what the list of the fleet filters by, in its order."""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0021"
branch_labels = None
depends_on = None

_BOT_COLUMNS = ["org_id", "name", "id", "phase", "state", "release_channel", "node_id", "current_digest", "image"]


def upgrade() -> None:
    """Create the indexes."""
    op.create_index("ix_bots_listing", "bots", _BOT_COLUMNS)
    op.create_index("ix_orgs_listing", "orgs", ["name", "id", "state"])


def downgrade() -> None:
    """Drop the indexes."""
    op.drop_index("ix_orgs_listing", "orgs")
    op.drop_index("ix_bots_listing", "bots")
