"""Move the personal data of events to a separate table, from which it can be erased; events stay append-only.

Also erase the addresses of accounts that were deleted before, and revoke the invites of deleted organizations.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BATCH_SIZE = 1000
_BIG_INTEGER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_PERSONAL_CHANGES = ("user.email_changed", "user.renamed")

_events = sa.table("events", sa.column("id"), sa.column("tag"), sa.column("data", sa.JSON))
_personal_data = sa.table(
    "event_personal_data",
    sa.column("event_id"),
    sa.column("user_id"),
    sa.column("email_normalized"),
    sa.column("data", sa.JSON),
)
_users = sa.table("users", sa.column("id"), sa.column("email_normalized"), sa.column("deleted_at"))
_orgs = sa.table("orgs", sa.column("id"), sa.column("state"))
_invites = sa.table(
    "organization_invites",
    sa.column("id"),
    sa.column("org_id"),
    sa.column("email"),
    sa.column("email_normalized"),
    sa.column("accepted_by"),
    sa.column("state"),
    sa.column("ended_at", sa.DateTime(timezone=True)),
)
_outbox = sa.table(
    "mail_outbox",
    sa.column("to"),
    sa.column("context", sa.JSON),
    sa.column("state"),
    sa.column("last_error"),
)


def upgrade() -> None:
    """Create the table, move the data, and erase what should have been erased or revoked before."""
    op.create_table(
        "event_personal_data",
        sa.Column("event_id", _BIG_INTEGER, autoincrement=False, nullable=False),
        sa.Column("user_id", sa.String(length=16), nullable=True),
        sa.Column("email_normalized", sa.String(length=254), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_event_personal_data_event_id_events")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_event_personal_data")),
    )
    op.create_index(op.f("ix_event_personal_data_user_id"), "event_personal_data", ["user_id"])
    op.create_index(op.f("ix_event_personal_data_email_normalized"), "event_personal_data", ["email_normalized"])
    connection = op.get_bind()
    _allow_changes_of_events(connection)
    for event_id, tag, data in _read_events(connection):
        personal = {key: data.pop(key) for key in _list_personal_keys(tag, data)}
        if personal:
            if "to" in personal:
                personal["email"] = personal.pop("to")
            _split(connection, event_id, data, personal)
    _refuse_changes_of_events(connection)
    _refuse_changes_of_personal_data(connection)
    _erase_deleted_users(connection)
    _revoke_invites_of_deleted_orgs(connection)


def downgrade() -> None:
    """Move the data back into the events, and drop the table. Erased data stays erased."""
    connection = op.get_bind()
    _allow_changes_of_events(connection)
    rows = connection.execute(
        sa.select(_events.c.id, _events.c.data, _personal_data.c.data).join(
            _personal_data, _personal_data.c.event_id == _events.c.id
        )
    ).all()
    for event_id, data, personal in rows:
        merged = {**data, **personal}
        if "mail" in data:
            merged["to"] = merged.pop("email")
        connection.execute(sa.update(_events).where(_events.c.id == event_id).values(data=merged))
    _refuse_changes_of_events(connection)
    op.drop_table("event_personal_data")


def _list_personal_keys(tag: str, data: dict[str, Any]) -> list[str]:
    keys = ["email", *(["to"] if "mail" in data else []), *(["old", "new"] if tag in _PERSONAL_CHANGES else [])]
    return [key for key in keys if key in data]


def _read_events(connection: Connection) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield all events in batches, so that a long log does not fill the memory."""
    last = 0
    while True:
        query = sa.select(_events).where(_events.c.id > last).order_by(_events.c.id).limit(_BATCH_SIZE)
        batch = connection.execute(query).all()
        if not batch:
            return
        for event_id, tag, data in batch:
            yield event_id, tag, dict(data)
        last = batch[-1].id


def _split(connection: Connection, event_id: int, data: dict[str, Any], personal: dict[str, Any]) -> None:
    connection.execute(sa.update(_events).where(_events.c.id == event_id).values(data=data))
    email = personal.get("email")
    connection.execute(
        sa.insert(_personal_data).values(
            event_id=event_id,
            user_id=data.get("user_id"),
            email_normalized=email.strip().lower() if email else None,
            data=personal,
        )
    )


def _allow_changes_of_events(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        op.execute("DROP TRIGGER events_no_update")
    else:
        op.execute("ALTER TABLE events DISABLE TRIGGER events_append_only")


def _refuse_changes_of_events(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER events_no_update BEFORE UPDATE ON events "
            "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
        )
    else:
        op.execute("ALTER TABLE events ENABLE TRIGGER events_append_only")


def _refuse_changes_of_personal_data(connection: Connection) -> None:
    """Personal data may be deleted, but never changed."""
    if connection.dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER event_personal_data_no_update BEFORE UPDATE ON event_personal_data "
            "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
        )
    else:
        op.execute(
            "CREATE TRIGGER event_personal_data_no_update BEFORE UPDATE ON event_personal_data "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()"
        )


def _erase_deleted_users(connection: Connection) -> None:
    """Erase the addresses of accounts that were deleted before, as far as events still tell them."""
    deleted = sa.select(_users.c.id).where(_users.c.deleted_at.is_not(None))
    rows = connection.execute(
        sa.select(_events.c.tag, _personal_data.c.data)
        .join(_personal_data, _personal_data.c.event_id == _events.c.id)
        .where(_personal_data.c.user_id.in_(deleted))
    ).all()
    found = {data.get("email") for _, data in rows}
    found |= {data.get(key) for tag, data in rows if tag == "user.email_changed" for key in ("old", "new")}
    emails = {email.strip().lower() for email in found if email}
    in_use = connection.scalars(sa.select(_users.c.email_normalized).where(_users.c.deleted_at.is_(None)))
    emails -= set(in_use)
    connection.execute(sa.delete(_personal_data).where(_personal_data.c.user_id.in_(deleted)))
    connection.execute(
        sa.update(_invites)
        .where(_invites.c.accepted_by.in_(deleted))
        .values(email="", email_normalized=sa.literal("deleted:") + _invites.c.id)
    )
    for email in emails:
        connection.execute(sa.delete(_personal_data).where(_personal_data.c.email_normalized == email))
        is_pending = _invites.c.state == "pending"
        connection.execute(
            sa.update(_invites)
            .where(_invites.c.email_normalized == email)
            .values(
                email="",
                email_normalized=sa.literal("deleted:") + _invites.c.id,
                state=sa.case((is_pending, "revoked"), else_=_invites.c.state),
                ended_at=sa.case((is_pending, datetime.now(UTC)), else_=_invites.c.ended_at),
            )
        )
    is_theirs = _outbox.c.context["user_id"].as_string().in_(deleted) | sa.func.lower(_outbox.c.to).in_(emails)
    connection.execute(
        sa.update(_outbox)
        .where(is_theirs)
        .values(
            to="",
            last_error=None,
            state=sa.case((_outbox.c.state.in_(["pending", "sending"]), "failed"), else_=_outbox.c.state),
        )
    )


def _revoke_invites_of_deleted_orgs(connection: Connection) -> None:
    deleted = sa.select(_orgs.c.id).where(_orgs.c.state != "active")
    connection.execute(
        sa.update(_invites)
        .where(_invites.c.state == "pending", _invites.c.org_id.in_(deleted))
        .values(state="revoked", ended_at=datetime.now(UTC))
    )
