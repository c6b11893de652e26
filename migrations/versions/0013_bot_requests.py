"""Remember which new organizations wait for their first bot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of requested bots."""
    op.create_table(
        "bot_requests",
        sa.Column("org_id", sa.String(16), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name="fk_bot_requests_org_id_orgs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("org_id", name="pk_bot_requests"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("bot_requests")
