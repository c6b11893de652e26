"""Add indexes by which a tick finds the few bots and updates that need work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_CHANGING = (
    "desired_state <> applied_state OR restart_requested_at IS NOT NULL"
    " OR coalesce(CAST(restart_policy AS TEXT), 'null') <> 'null'"
)
_EXCEPTIONAL = (
    "phase <> 'active' OR state <> 'running' OR desired_state <> 'running' OR release_channel = 'pinned'"
    " OR needs_attention IS NOT NULL"
)
_UNFINISHED = "cleaned_at IS NULL AND state NOT IN ('pending', 'skipped', 'needs_attention')"

_NEW = {
    "ix_bot_updates_rollout": (
        "bot_updates",
        ["rollout_id", "state", "wave", "ended_at", "not_before", "bot_id", "id"],
    ),
    "ix_bots_current_digest_id": ("bots", ["current_digest", "id"]),
    "ix_bots_image_current_digest_org_id_id": ("bots", ["image", "current_digest", "org_id", "id"]),
    "ix_bots_release_channel_image": ("bots", ["release_channel", "image"]),
    "ix_tenant_update_configs_mode_org_id": ("tenant_update_configs", ["mode", "org_id"]),
    "ix_tenant_update_configs_preferred_hour_utc_org_id": (
        "tenant_update_configs",
        ["preferred_hour_utc", "org_id"],
    ),
}
_PARTIAL = {
    "ix_bot_updates_stopped": ("bot_updates", "rollout_id", "skip_reason = 'stopped'"),
    "ix_bot_updates_unfinished": ("bot_updates", "bot_id", _UNFINISHED),
    "ix_bots_changing": ("bots", "id", _CHANGING),
    "ix_bots_exceptional": ("bots", "id", _EXCEPTIONAL),
    "ix_orgs_inactive": ("orgs", "id", "state <> 'active'"),
}
_OLD = {"ix_bots_image": ("bots", ["image"])}
_OLD_PARTIAL = {"ix_bot_updates_uncleaned": ("bot_updates", "state", "cleaned_at IS NULL")}


def upgrade() -> None:
    """Create the indexes, and drop those that they replace."""
    _drop({**_OLD, **_OLD_PARTIAL})
    _create(_NEW, _PARTIAL)


def downgrade() -> None:
    """Drop the indexes, and create the old ones again."""
    _drop({**_NEW, **_PARTIAL})
    _create(_OLD, _OLD_PARTIAL)


def _create(indexes: dict[str, tuple[str, list[str]]], partial: dict[str, tuple[str, str, str]]) -> None:
    for name, (table, columns) in indexes.items():
        op.create_index(name, table, columns)
    for name, (table, column, condition) in partial.items():
        where = sa.text(condition)
        op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)


def _drop(indexes: dict[str, tuple[str, list[str]] | tuple[str, str, str]]) -> None:
    for name, (table, *_) in indexes.items():
        op.drop_index(name, table)
