"""Let pages cost the same at any size, and add labels, holds of updates and saved views.

Indexes lead the event log and lists of bots to the newest rows. Computed columns spare lists the changelogs' bodies.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_EXCEPTIONAL = (
    "phase <> 'active' OR state <> 'running' OR desired_state <> 'running' OR release_channel = 'pinned'"
    " OR needs_attention IS NOT NULL"
)
_EXCEPTIONAL_OR_HELD = f"{_EXCEPTIONAL} OR held_until IS NOT NULL"
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
    """Create the indexes, drop those that they replace, and add the columns and tables."""
    _replace(_OLD, _NEW)
    # PostgreSQL before 18 only has stored computed columns, and SQLite can only add others.
    persisted = op.get_bind().dialect.name == "postgresql" or None
    for key in _KEYS_OF_CHANGELOGS:
        computed = sa.Computed(f"changelog ->> '{key}'", persisted=persisted)
        # Not in batch mode, which would copy the table.
        op.add_column("releases", sa.Column(f"changelog_{key}", sa.Text(), computed))
    op.add_column("bots", sa.Column("held_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("bots", sa.Column("hold_reason", sa.Text(), nullable=True))
    _replace_exceptional(_EXCEPTIONAL_OR_HELD)
    _create_tables()


def downgrade() -> None:
    """Drop the tables, columns and indexes, and create the old indexes again."""
    op.drop_table("saved_views")
    op.drop_table("bot_labels")
    _replace_exceptional(_EXCEPTIONAL)
    op.drop_column("bots", "hold_reason")
    op.drop_column("bots", "held_until")
    for key in _KEYS_OF_CHANGELOGS:
        op.drop_column("releases", f"changelog_{key}")
    _replace(_NEW, _OLD)


def _create_tables() -> None:
    op.create_table(
        "bot_labels",
        sa.Column("bot_id", sa.String(16), sa.ForeignKey("bots.id", ondelete="CASCADE"), nullable=False),
        sa.Column("label", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("bot_id", "label"),
    )
    op.create_index("ix_bot_labels_label_bot_id", "bot_labels", ["label", "bot_id"])
    op.create_table(
        "saved_views",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("query", sa.String(1000), nullable=False),
        sa.Column("created_by", sa.String(16), sa.ForeignKey("users.id"), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _replace_exceptional(condition: str) -> None:
    where = sa.text(condition)
    op.drop_index("ix_bots_exceptional", "bots")
    op.create_index("ix_bots_exceptional", "bots", ["id"], sqlite_where=where, postgresql_where=where)


def _replace(old: dict[str, tuple[str, list[str]]], new: dict[str, tuple[str, list[str]]]) -> None:
    for name, (table, _columns) in old.items():
        op.drop_index(name, table)
    for name, (table, columns) in new.items():
        op.create_index(name, table, columns)
