"""Add indexes and computed columns by which the event log and lists read the newest rows and no changelogs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None

_KEYS_OF_CHANGELOGS = ("version", "date")
_NEW = {
    "ix_bot_updates_bot_id_created_at_id": ("bot_updates", ["bot_id", "created_at", "id"]),
    "ix_event_personal_data_email_normalized_event_id": ("event_personal_data", ["email_normalized", "event_id"]),
    "ix_events_actor_id_id": ("events", ["actor_id", "id"]),
    "ix_events_bot_id_id": ("events", ["bot_id", "id"]),
    "ix_events_org_id_id": ("events", ["org_id", "id"]),
    "ix_events_org_id_tag_id": ("events", ["org_id", "tag", "id"]),
    "ix_events_tag_id": ("events", ["tag", "id"]),
    "ix_events_user_id_id": ("events", ["user_id", "id"]),
}
_OLD = {
    "ix_event_personal_data_email_normalized": ("event_personal_data", ["email_normalized"]),
    "ix_events_actor_id": ("events", ["actor_id"]),
    "ix_events_bot_id": ("events", ["bot_id"]),
    "ix_events_org_id": ("events", ["org_id"]),
    "ix_events_tag": ("events", ["tag"]),
    "ix_events_user_id": ("events", ["user_id"]),
}


def upgrade() -> None:
    """Create the indexes, drop those that they replace, and add the computed columns."""
    _replace(_OLD, _NEW)
    # PostgreSQL before 18 only has stored computed columns, and SQLite can only add others.
    persisted = op.get_bind().dialect.name == "postgresql" or None
    for key in _KEYS_OF_CHANGELOGS:
        computed = sa.Computed(f"changelog ->> '{key}'", persisted=persisted)
        # Not in batch mode, which would copy the table.
        op.add_column("releases", sa.Column(f"changelog_{key}", sa.Text(), computed))


def downgrade() -> None:
    """Drop the columns and the indexes, and create the old indexes again."""
    for key in _KEYS_OF_CHANGELOGS:
        op.drop_column("releases", f"changelog_{key}")
    _replace(_NEW, _OLD)


def _replace(old: dict[str, tuple[str, list[str]]], new: dict[str, tuple[str, list[str]]]) -> None:
    for name, (table, _columns) in old.items():
        op.drop_index(name, table)
    for name, (table, columns) in new.items():
        op.create_index(name, table, columns)
