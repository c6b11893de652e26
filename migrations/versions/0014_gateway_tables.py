"""Create the tables of the gateway: tickets, sessions, assertion keys, processes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "assertion_keys",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_assertion_keys"),
    )
    op.create_table(
        "gateway_processes",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gateway_processes"),
    )
    op.create_table(
        "gateway_sessions",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("bot_id", sa.String(length=16), nullable=False),
        sa.Column("portal_session", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name="fk_gateway_sessions_bot_id_bots", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["portal_session"],
            ["sessions.id_hash"],
            name="fk_gateway_sessions_portal_session_sessions",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_hash", name="pk_gateway_sessions"),
    )
    op.create_index("ix_gateway_sessions_portal_session", "gateway_sessions", ["portal_session"])
    op.create_table(
        "gateway_tickets",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("bot_id", sa.String(length=16), nullable=False),
        sa.Column("portal_session", sa.String(length=64), nullable=False),
        sa.Column("state_hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name="fk_gateway_tickets_bot_id_bots", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["portal_session"],
            ["sessions.id_hash"],
            name="fk_gateway_tickets_portal_session_sessions",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_hash", name="pk_gateway_tickets"),
    )
    op.create_index("ix_gateway_tickets_expires_at", "gateway_tickets", ["expires_at"])
    op.create_index("ix_gateway_tickets_portal_session", "gateway_tickets", ["portal_session"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("gateway_tickets")
    op.drop_table("gateway_sessions")
    op.drop_table("gateway_processes")
    op.drop_table("assertion_keys")
