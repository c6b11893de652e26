"""Add the bot template, phases of bots, and the provisioning of bots."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_WITH_DEFAULT = ("health_expectation", "phase", "creation_attempts", "header_prefix")


def upgrade() -> None:
    """Create the tables and columns, with one row per existing bot and one template."""
    with op.batch_alter_table("bots") as bots:
        for column in _bot_columns():
            bots.add_column(column)
        bots.create_unique_constraint("uq_bots_node_id_host_port", ["node_id", "host_port"])
        bots.create_index("ix_bots_phase", ["phase"])
    with op.batch_alter_table("bots") as bots:
        for name in _WITH_DEFAULT:
            bots.alter_column(name, server_default=None)
    op.execute("UPDATE bots SET phase = 'removed' WHERE container_id IS NULL AND subdomain LIKE 'gone-%'")
    _create_template()
    _create_requests()
    _create_syncs()
    with op.batch_alter_table("fleet_settings") as fleet_settings:
        fleet_settings.drop_column("bot_template")


def downgrade() -> None:
    """Drop the tables and columns."""
    with op.batch_alter_table("fleet_settings") as fleet_settings:
        fleet_settings.add_column(sa.Column("bot_template", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("fleet_settings") as fleet_settings:
        fleet_settings.alter_column("bot_template", server_default=None)
    op.drop_table("bot_syncs")
    op.drop_table("bot_requests")
    op.drop_table("bot_templates")
    with op.batch_alter_table("bots") as bots:
        bots.drop_index("ix_bots_phase")
        bots.drop_constraint("uq_bots_node_id_host_port", type_="unique")
        for column in _bot_columns():
            bots.drop_column(column.name)


def _bot_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("health_expectation", sa.String(32), nullable=False, server_default="json_status_ok"),
        sa.Column("host_port", sa.Integer(), nullable=True),
        sa.Column("phase", sa.String(32), nullable=False, server_default="active"),
        sa.Column("creation_attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("creation_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("creation_error", sa.Text(), nullable=True),
        sa.Column("remove_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("keep_data", sa.Boolean(), nullable=True),
        sa.Column("header_prefix", sa.String(64), nullable=False, server_default="x-platform-user"),
        sa.Column("secret_variable", sa.String(100), nullable=True),
    )


def _create_template() -> None:
    template = op.create_table(
        "bot_templates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("image", sa.String(300), nullable=True),
        sa.Column("release_channel", sa.String(32), nullable=False),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("hosted_environment", sa.JSON(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("health_path", sa.String(200), nullable=False),
        sa.Column("health_expectation", sa.String(32), nullable=False),
        sa.Column("volumes", sa.JSON(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=True),
        sa.Column("cpu_millis", sa.Integer(), nullable=True),
        sa.Column("pids_limit", sa.Integer(), nullable=True),
        sa.Column("capabilities", sa.JSON(), nullable=False),
        sa.Column("header_prefix", sa.String(64), nullable=False),
        sa.Column("secret_variable", sa.String(100), nullable=False),
        sa.Column("gateway_url", sa.String(300), nullable=True),
        sa.Column("api_key", sa.Text(), nullable=True),
        sa.Column("budget_cents", sa.Integer(), nullable=False),
        sa.Column("per_agent_budget_cents", sa.Integer(), nullable=True),
        sa.Column("agents", sa.JSON(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("create_for_new_orgs", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bot_templates"),
    )
    row = {
        "id": 1,
        "version": 1,
        "release_channel": "stable",
        "hosted_environment": {},
        "port": 3100,
        "health_path": "/health",
        "health_expectation": "json_status_ok",
        "volumes": ["/data", "/paperclip"],
        "capabilities": [],
        "header_prefix": "x-platform-user",
        "secret_variable": "PROVISION_SECRET",
        "budget_cents": 0,
        "agents": [],
        "extra": {},
        "create_for_new_orgs": False,
        "updated_at": _now(),
    }
    op.bulk_insert(template, [row])


def _create_requests() -> None:
    op.create_table(
        "bot_requests",
        sa.Column("org_id", sa.String(16), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name="fk_bot_requests_org_id_orgs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("org_id", name="pk_bot_requests"),
    )


def _create_syncs() -> None:
    op.create_table(
        "bot_syncs",
        sa.Column("bot_id", sa.String(16), nullable=False),
        sa.Column("provisioning", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("provisioned_epoch", sa.Integer(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("budget_cents", sa.Integer(), nullable=True),
        sa.Column("per_agent_budget_cents", sa.Integer(), nullable=True),
        sa.Column("observed_budget_cents", sa.Integer(), nullable=True),
        sa.Column("observed_per_agent_budget_cents", sa.Integer(), nullable=True),
        sa.Column("observed_budget_epoch", sa.Integer(), nullable=True),
        sa.Column("reconciled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reconciled_epoch", sa.Integer(), nullable=True),
        sa.Column("next_reconcile_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lists_members", sa.Boolean(), nullable=True),
        sa.Column("refused_removals", sa.Integer(), nullable=True),
        sa.Column("drift_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name="fk_bot_syncs_bot_id_bots", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("bot_id", name="pk_bot_syncs"),
    )
    op.create_index("ix_bot_syncs_state", "bot_syncs", ["state"])
    op.create_index("ix_bot_syncs_next_reconcile_at", "bot_syncs", ["next_reconcile_at"])
    bots = sa.table("bots", sa.column("id", sa.String), sa.column("phase", sa.String))
    syncs = sa.table(
        "bot_syncs",
        sa.column("bot_id", sa.String),
        sa.column("provisioning", sa.String),
        sa.column("state", sa.String),
        sa.column("attempts", sa.Integer),
        sa.column("changed_at", sa.DateTime(timezone=True)),
        sa.column("drift_count", sa.Integer),
    )
    existing = sa.select(
        bots.c.id,
        sa.literal("off"),
        sa.literal("pending"),
        sa.literal(0),
        sa.literal(_now(), sa.DateTime(timezone=True)),
        sa.literal(0),
    ).where(bots.c.phase != "removed")
    op.execute(sa.insert(syncs).from_select([column.name for column in syncs.columns], existing))


def _now() -> Any:
    now = datetime.now(UTC)
    return now.replace(tzinfo=None) if op.get_bind().dialect.name == "sqlite" else now
