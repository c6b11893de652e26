"""Add the changes of bots' states, and settings about the logs of bots."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_SECRET_VARIABLES = [
    *("*SECRET*", "*TOKEN*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*_PASS", "*KEY*", "*CREDENTIAL*", "*DSN*"),
    "*COOKIE*",
]


def upgrade() -> None:
    """Create the table, and let members read logs as before."""
    op.create_table(
        "bot_state_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("bot_id", sa.String(length=16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("old", sa.String(length=32), nullable=False),
        sa.Column("new", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_bot_state_changes_bot_id_bots")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bot_state_changes")),
    )
    op.create_index(op.f("ix_bot_state_changes_bot_id_at"), "bot_state_changes", ["bot_id", "at"])
    op.create_index(op.f("ix_bot_state_changes_at"), "bot_state_changes", ["at"])
    with op.batch_alter_table("fleet_settings") as settings:
        settings.add_column(sa.Column("members_read_logs", sa.Boolean(), nullable=False, server_default=sa.true()))
        settings.add_column(
            sa.Column("secret_variables", sa.JSON(), nullable=False, server_default=json.dumps(_SECRET_VARIABLES))
        )
    with op.batch_alter_table("fleet_settings") as settings:
        settings.alter_column("members_read_logs", server_default=None)
        settings.alter_column("secret_variables", server_default=None)


def downgrade() -> None:
    """Remove the settings and the table."""
    with op.batch_alter_table("fleet_settings") as settings:
        settings.drop_column("secret_variables")
        settings.drop_column("members_read_logs")
    op.drop_table("bot_state_changes")
