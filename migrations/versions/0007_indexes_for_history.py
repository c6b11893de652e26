"""Replace indexes that read the whole history by indexes that lead to the few rows of each query."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OLD = {
    "bot_updates": (["bot_id"], ["state"]),
    "mail_outbox": (["next_attempt_at"], ["state"]),
    "sessions": (["user_id"],),
}
_NEW = {
    "bot_updates": (["bot_id", "state", "ended_at"], ["state", "ended_at"]),
    "events": (["user_id"],),
    "mail_outbox": (["state", "next_attempt_at"],),
    "sessions": (["user_id", "last_seen_at"],),
}
_PARTIAL = {"ix_bot_updates_open": "ended_at IS NULL", "ix_bot_updates_uncleaned": "cleaned_at IS NULL"}


def upgrade() -> None:
    """Add the computed column of events, and replace the indexes."""
    # PostgreSQL before 18 only has stored computed columns, and SQLite can only add others.
    computed = sa.Computed("data ->> 'user_id'", persisted=op.get_bind().dialect.name == "postgresql" or None)
    # Not in batch mode, which would recreate the table of events without its triggers.
    op.add_column("events", sa.Column("user_id", sa.String(length=16), computed))
    _drop_indexes(_OLD)
    _create_indexes(_NEW)
    for name, condition in _PARTIAL.items():
        where = sa.text(condition)
        op.create_index(name, "bot_updates", ["state"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Create the old indexes again, and drop the column."""
    for name in _PARTIAL:
        op.drop_index(name, "bot_updates")
    _drop_indexes(_NEW)
    _create_indexes(_OLD)
    op.drop_column("events", "user_id")


def _create_indexes(indexes: dict[str, tuple[list[str], ...]]) -> None:
    for table, columns in ((table, columns) for table, group in indexes.items() for columns in group):
        op.create_index(_name(table, columns), table, columns)


def _drop_indexes(indexes: dict[str, tuple[list[str], ...]]) -> None:
    for table, columns in ((table, columns) for table, group in indexes.items() for columns in group):
        op.drop_index(_name(table, columns), table)


def _name(table: str, columns: list[str]) -> str:
    return op.f(f"ix_{table}_{'_'.join(columns)}")
