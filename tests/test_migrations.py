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
from portal.models import Base, Event, User
from portal.paths import ROOT
from portal.settings import Settings
from portal.web.extensions import db


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
