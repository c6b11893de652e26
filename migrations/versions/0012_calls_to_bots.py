"""Add what the member sync records about its calls to bots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_COUNTERS = ("unanswered_calls", "claim_fence")
_MOMENTS = ("resend_before", "next_call_at", "claimed_until")


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("bot_syncs") as syncs:
        syncs.add_column(sa.Column("allowed_removals", sa.Integer(), nullable=True))
        for name in _MOMENTS:
            syncs.add_column(sa.Column(name, sa.DateTime(timezone=True), nullable=True))
        for name in _COUNTERS:
            syncs.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("bot_syncs") as syncs:
        for name in _COUNTERS:
            syncs.alter_column(name, server_default=None)
    with op.batch_alter_table("member_sync") as member_sync:
        member_sync.add_column(sa.Column("observed_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("member_sync") as member_sync:
        member_sync.drop_column("observed_at")
    with op.batch_alter_table("bot_syncs") as syncs:
        for name in ("allowed_removals", *_MOMENTS, *_COUNTERS):
            syncs.drop_column(name)
