"""Insert the row of fleet settings, and rename the column `released_at` of releases to `quarantine_lifted_at`."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def upgrade() -> None:
    """Rename the column, and insert the row unless an earlier version has already inserted it on first use."""
    with op.batch_alter_table("releases") as releases:
        releases.alter_column(
            "released_at", new_column_name="quarantine_lifted_at", existing_type=sa.DateTime(timezone=True)
        )
    settings = sa.table(
        "fleet_settings",
        sa.column("id", sa.Integer),
        sa.column("install_id", sa.String),
        sa.column("mode", sa.String),
        sa.column("strategy", sa.String),
        sa.column("parameters", sa.JSON),
        sa.column("max_parallel", sa.Integer),
        sa.column("tenant_mode", sa.String),
        sa.column("tenant_hour_utc", sa.Integer),
        sa.column("bot_template", sa.JSON),
        sa.column("version", sa.Integer),
        sa.column("updated_at", sa.DateTime(timezone=True)),
    )
    connection = op.get_bind()
    if connection.scalar(sa.select(settings.c.id)) is not None:
        return
    connection.execute(
        sa.insert(settings).values(
            id=1,
            install_id="".join(secrets.choice(_ALPHABET) for _ in range(16)),
            mode="auto",
            strategy="rolling_wave",
            parameters={},
            max_parallel=2,
            tenant_mode="manual",
            tenant_hour_utc=3,
            bot_template={},
            version=1,
            updated_at=datetime.now(UTC).replace(tzinfo=None)
            if connection.dialect.name == "sqlite"
            else sa.func.now(),
        )
    )


def downgrade() -> None:
    """Rename the column back. The row of settings stays."""
    with op.batch_alter_table("releases") as releases:
        releases.alter_column(
            "quarantine_lifted_at", new_column_name="released_at", existing_type=sa.DateTime(timezone=True)
        )
