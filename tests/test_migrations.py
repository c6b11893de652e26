"""Migrations: one head, the same tables as the models, upgrades and downgrades, triggers and foreign keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade, upgrade

from portal.app import create_app
from portal.models import (
    Base,
    Event,
    EventPersonalData,
    Invite,
    InviteState,
    MailState,
    OutgoingMail,
    Snapshot,
    SnapshotState,
    User,
)
from portal.paths import ROOT
from portal.settings import Settings
from portal.web.extensions import db
from tests import factories


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """Return the portal with a newly migrated database."""
    app = create_app(settings)
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


def test_there_is_one_head() -> None:
    assert len(ScriptDirectory(str(ROOT / "migrations")).get_heads()) == 1


def test_migrated_tables_match_the_models(app: Flask) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_downgrade_and_second_upgrade_work(app: Flask) -> None:
    downgrade(revision="base")
    with db.engine.connect() as connection:
        remaining = set(sa.inspect(connection).get_table_names())
    assert remaining <= {"alembic_version"}
    upgrade()
    with db.engine.connect() as connection:
        assert {"bots", "events"} <= set(sa.inspect(connection).get_table_names())


def test_migrating_collects_statistics(app: Flask) -> None:
    db.session.add_all(
        User(email=f"{n}@example.com", email_normalized=f"{n}@example.com", name="A") for n in range(9)
    )
    db.session.commit()
    downgrade(revision="-1")

    upgrade()

    query = "SELECT stat FROM sqlite_stat1 WHERE tbl = 'users'"
    if db.engine.dialect.name == "postgresql":
        query = "SELECT attname FROM pg_stats WHERE tablename = 'users'"
    assert db.session.execute(sa.text(query)).all()


@pytest.mark.parametrize("statement", ["UPDATE events SET tag = 'x'", "DELETE FROM events"])
def test_events_cannot_be_changed_or_deleted(app: Flask, statement: str) -> None:
    db.session.add(Event(tag="bot.created"))
    db.session.commit()
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        db.session.execute(sa.text(statement))
    db.session.rollback()


def test_foreign_keys_are_enforced_after_migrations(app: Flask) -> None:
    db.session.add(User(email="a@example.com", email_normalized="a@example.com", name="A"))
    db.session.commit()
    with pytest.raises(sa.exc.IntegrityError):
        db.session.execute(
            sa.text(
                "INSERT INTO orgs (id, slug, name, owner_id, state, version, created_at)"
                " VALUES ('o', 'o', 'O', 'missing', 'active', 1, '2026-01-01')"
            )
        )
    db.session.rollback()


_PERSONAL_DATA = "0005"
"""The revision that moves personal data of events to a table."""


def _downgrade_below(revision: str) -> None:
    downgrade(revision=revision)
    downgrade(revision="-1")


@pytest.fixture
def before_personal_data(app: Flask) -> Iterator[sa.Connection]:
    """Return a connection to a database as it was before personal data of events was moved to its own table."""
    _downgrade_below(_PERSONAL_DATA)
    with db.engine.connect() as connection:
        yield connection


def test_personal_data_of_old_events_is_moved_and_that_of_deleted_accounts_erased(
    before_personal_data: sa.Connection,
) -> None:
    moment = {"at": "2026-01-01"}
    users = "INSERT INTO users (id, email, email_normalized, name, is_platform_admin, deleted_at, created_at) VALUES "
    before_personal_data.execute(
        sa.text(
            users + "('ann', 'Ann@x.test', 'ann@x.test', 'Ann', false, NULL, :at),"
            " ('gone', '', 'deleted:gone', 'deleted user', false, :at, :at)"
        ),
        moment,
    )
    before_personal_data.execute(
        sa.text(
            "INSERT INTO orgs (id, slug, name, owner_id, state, version, created_at) VALUES"
            " ('acme', 'acme', 'Acme', 'ann', 'active', 1, :at), ('old', 'old', 'Old', 'ann', 'deleting', 1, :at)"
        ),
        moment,
    )
    before_personal_data.execute(
        sa.text(
            "INSERT INTO organization_invites (id, org_id, email, email_normalized, role, state, invited_by,"
            " accepted_by, version, created_at, expires_at) VALUES"
            " ('a', 'acme', 'Gone@x.test', 'gone@x.test', 'member', 'pending', 'ann', NULL, 1, :at, :at),"
            " ('b', 'acme', 'prior@x.test', 'prior@x.test', 'member', 'accepted', 'ann', 'gone', 1, :at, :at),"
            " ('c', 'old', 'new@x.test', 'new@x.test', 'member', 'pending', 'ann', NULL, 1, :at, :at),"
            " ('d', 'acme', 'new@x.test', 'new@x.test', 'member', 'pending', 'ann', NULL, 1, :at, :at)"
        ),
        moment,
    )
    before_personal_data.execute(
        sa.text(
            'INSERT INTO mail_outbox (id, dedupe_key, "to", template, context, state, attempts, next_attempt_at,'
            " created_at) VALUES ('m', 'm', 'GONE@x.test', 'reset', '{}', 'pending', 0, :at, :at),"
            " ('n', 'n', 'ann@x.test', 'reset', '{}', 'sent', 0, :at, :at)"
        ),
        moment,
    )
    for tag, data in (
        ("user.signed_up", {"user_id": "gone", "email": "Gone@x.test"}),
        ("invite.sent", {"invite_id": "a", "email": "gone@x.test", "role": "member"}),
        ("user.email_changed", {"user_id": "ann", "old": "anna@x.test", "new": "Ann@x.test"}),
        ("mail.resent", {"mail": "n", "to": "ann@x.test", "template": "reset"}),
        ("org.renamed", {"old": "Acme", "new": "Acme 2"}),
    ):
        statement = sa.text("INSERT INTO events (at, tag, data) VALUES (:at, :tag, :data)")
        before_personal_data.execute(
            statement.bindparams(sa.bindparam("data", type_=sa.JSON)), {**moment, "tag": tag, "data": data}
        )
    before_personal_data.commit()

    upgrade()

    signed_up, invited, changed, resent, renamed = db.session.scalars(sa.select(Event).order_by(Event.id))
    assert (signed_up.facts, invited.facts) == ({"user_id": "gone"}, {"invite_id": "a", "role": "member"})
    assert changed.data == {"user_id": "ann"}
    assert changed.facts == {"user_id": "ann", "old": "anna@x.test", "new": "Ann@x.test"}
    assert resent.facts == {"mail": "n", "email": "ann@x.test", "template": "reset"}
    assert renamed.data == {"old": "Acme", "new": "Acme 2"}
    invites = {row.id: (row.email, row.email_normalized, row.state) for row in db.session.scalars(sa.select(Invite))}
    assert invites == {
        "a": ("", "deleted:a", InviteState.REVOKED),
        "b": ("", "deleted:b", InviteState.ACCEPTED),
        "c": ("new@x.test", "new@x.test", InviteState.REVOKED),
        "d": ("new@x.test", "new@x.test", InviteState.PENDING),
    }
    mails = {mail.id: (mail.to, mail.state) for mail in db.session.scalars(sa.select(OutgoingMail))}
    assert mails == {"m": ("", MailState.CANCELLED), "n": ("ann@x.test", MailState.SENT)}
    db.session.remove()

    _downgrade_below(_PERSONAL_DATA)

    with db.engine.connect() as connection:
        rows = (
            connection.execute(sa.text("SELECT data FROM events ORDER BY id").columns(data=sa.JSON)).scalars().all()
        )
    assert rows[2:4] == [
        {"user_id": "ann", "old": "anna@x.test", "new": "Ann@x.test"},
        {"mail": "n", "to": "ann@x.test", "template": "reset"},
    ]


def test_personal_data_of_events_can_be_deleted_but_not_changed(app: Flask) -> None:
    event = Event(tag="invite.sent", personal=EventPersonalData(data={"email": "a@example.com"}))
    db.session.add(event)
    db.session.commit()
    for statement in (
        "UPDATE event_personal_data SET data = '{}'",
        "UPDATE events SET data = '{}'",
        "DELETE FROM events",
    ):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            db.session.execute(sa.text(statement))
        db.session.rollback()
    db.session.execute(sa.delete(EventPersonalData))
    db.session.commit()
    db.session.expire_all()
    assert db.session.scalars(sa.select(Event)).one().facts == {}


def test_failed_mails_that_were_not_needed_become_cancelled(app: Flask) -> None:
    _downgrade_below("0011")
    reasons = {
        "refused": "The mail server refused the recipient: 550 unknown",
        "gave up": "Gave up after 152 attempts. The mail server does not answer.",
        "revoked": "The invite was revoked before the email could be sent.",
        "unknown": None,
    }
    insert = sa.text(
        'INSERT INTO mail_outbox (id, dedupe_key, "to", template, context, state, attempts, next_attempt_at,'
        " created_at, last_error)"
        " VALUES (:id, :id, 'ann@x.test', 'reset', '{}', 'failed', 1, '2026-01-01', '2026-01-01', :reason)"
    )
    with db.engine.begin() as connection:
        connection.execute(insert, [{"id": key, "reason": reason} for key, reason in reasons.items()])

    upgrade()

    states = {mail.id: mail.state for mail in db.session.scalars(sa.select(OutgoingMail))}
    assert states == {
        "refused": MailState.FAILED,
        "gave up": MailState.FAILED,
        "revoked": MailState.CANCELLED,
        "unknown": MailState.CANCELLED,
    }
    db.session.remove()

    _downgrade_below("0011")

    with db.engine.connect() as connection:
        assert set(connection.scalars(sa.text("SELECT state FROM mail_outbox"))) == {"failed"}


def test_checksums_of_snapshots_keep_their_algorithm(app: Flask) -> None:
    session = db.session()
    node = factories.node(session)
    bot = factories.bot(session, factories.org(session, factories.user(session)), node)
    update = factories.update(session, factories.rollout(session, factories.release(session)), bot)
    checksums = {"old": f"sha256:{'a' * 64}", "new": f"blake2b-256:{'b' * 64}", "unfinished": None}
    for name, checksum in checksums.items():
        row = Snapshot(update_id=update.id, node_id=node.id, volume=name, archive=name, checksum=checksum)
        row.state = SnapshotState.VERIFIED if checksum else SnapshotState.TAKING
        session.add(row)
    session.commit()

    _downgrade_below("0018")

    with db.engine.connect() as connection:
        found = connection.execute(sa.text("SELECT volume, sha256 FROM snapshots"))
        assert dict(iter(found)) == {"old": "a" * 64, "new": None, "unfinished": None}

    upgrade()

    assert {row.volume: row.checksum for row in db.session.scalars(sa.select(Snapshot))} == checksums | {"new": None}
