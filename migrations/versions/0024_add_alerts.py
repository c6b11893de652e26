"""Add alert channels and their messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and the subscription to the weekly summary."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "alert_channels",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("format", sa.String(32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.String(300), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pause_reason", sa.String(300), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert_channels"),
        sa.UniqueConstraint("name", name="uq_alert_channels_name"),
    )
    op.create_table(
        "alert_deliveries",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("message_id", sa.String(16), nullable=False),
        sa.Column("channel_id", sa.String(16), nullable=False),
        sa.Column("event_id", number, nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_alert_deliveries"),
        sa.UniqueConstraint("channel_id", "event_id", name="uq_alert_deliveries_channel_id_event_id"),
    )
    op.create_index("ix_alert_deliveries_state_channel_id_id", "alert_deliveries", ["state", "channel_id", "id"])
    op.create_index("ix_alert_deliveries_channel_id_id", "alert_deliveries", ["channel_id", "id"])
    op.create_index("ix_alert_deliveries_created_at", "alert_deliveries", ["created_at"])
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("weekly_summary", sa.Boolean(), server_default=sa.false(), nullable=False))
    with op.batch_alter_table("users") as users:
        users.alter_column("weekly_summary", server_default=None)


def downgrade() -> None:
    """Drop the tables and the subscription."""
    with op.batch_alter_table("users") as users:
        users.drop_column("weekly_summary")
    op.drop_table("alert_deliveries")
    op.drop_table("alert_channels")
