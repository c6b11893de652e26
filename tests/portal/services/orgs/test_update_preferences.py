"""Update preferences of an organization: defaults, own choice, override by an operator, concurrent changes."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Event, Org, TenantMode, TenantUpdateConfig, User, utcnow
from portal.services import fleet_settings
from portal.services.errors import ForbiddenError, InvalidError
from portal.services.orgs import update_preferences
from portal.services.orgs.update_preferences import Preferences
from tests import factories


@pytest.fixture
def acme(database: Database) -> str:
    """Add an organization that alice owns, and return its id."""
    with database.transaction() as session:
        return factories.org(session, factories.user(session, "alice")).id


def count_changes(database: Database, org_id: str) -> int:
    """Count the recorded changes of an organization's settings."""
    with database.reading() as session:
        query = sa.select(sa.func.count()).where(Event.org_id == org_id, Event.tag == "config.changed")
        return session.scalar(query) or 0


def test_org_without_own_preferences_follows_fleet_defaults(database: Database, acme: str) -> None:
    with database.transaction() as session:
        org = session.get_one(Org, acme)
        assert update_preferences.get_preferences(session, org) == Preferences(TenantMode.MANUAL, 3)
        fleet_settings.set_tenant_defaults(session, TenantMode.AUTO, 22, utcnow(), actor=None)
        assert update_preferences.get_preferences(session, org) == Preferences(TenantMode.AUTO, 22)


def test_org_cannot_change_overridden_preferences(database: Database, acme: str) -> None:
    now = utcnow()
    with database.transaction() as session:
        org, alice = session.get_one(Org, acme), session.scalars(sa.select(User)).one()
        update_preferences.set_preferences(session, org, TenantMode.AUTO, 5, actor=alice, now=now)
        update_preferences.set_override(session, org, TenantMode.MANUAL, 6, actor=None, now=now)
        with pytest.raises(ForbiddenError, match="Your provider manages"):
            update_preferences.set_preferences(session, org, TenantMode.AUTO, 5, actor=alice, now=now)
        update_preferences.lift_override(session, org, actor=None, now=now)
        assert update_preferences.get_preferences(session, org) == Preferences(TenantMode.MANUAL, 6)
        own = update_preferences.set_preferences(session, org, TenantMode.AUTO, 0, actor=alice, now=now)
        assert own.hour_utc == 0
    assert count_changes(database, acme) == 4


def test_lifting_without_override_changes_nothing(database: Database, acme: str) -> None:
    now = utcnow()
    with database.transaction() as session:
        org, alice = session.get_one(Org, acme), session.scalars(sa.select(User)).one()
        kept = update_preferences.lift_override(session, org, actor=None, now=now)
        assert kept == Preferences(TenantMode.MANUAL, 3)
        assert session.get(TenantUpdateConfig, acme) is None, "the organization still follows the fleet's defaults"
        update_preferences.set_preferences(session, org, TenantMode.AUTO, 5, actor=alice, now=now)
        kept = update_preferences.lift_override(session, org, actor=None, now=now)
        assert kept == Preferences(TenantMode.AUTO, 5)
    assert count_changes(database, acme) == 1


def test_concurrent_first_choices_are_stored_one_after_the_other(database: Database, acme: str) -> None:
    refusals = []

    def set_own_preferences() -> None:
        with database.transaction() as session:
            org, alice = session.get_one(Org, acme), session.scalars(sa.select(User)).one()
            with pytest.raises(ForbiddenError) as refusal:
                update_preferences.set_preferences(session, org, TenantMode.MANUAL, 5, actor=alice, now=utcnow())
        refusals.append(str(refusal.value))

    other = threading.Thread(target=set_own_preferences)
    with database.transaction() as session:
        org = session.get_one(Org, acme)
        update_preferences.set_override(session, org, TenantMode.AUTO, 4, actor=None, now=utcnow())
        session.flush()
        other.start()
        other.join(0.3)
    other.join()
    assert ["Your provider manages" in text for text in refusals] == [True]
    with database.reading() as session:
        stored = update_preferences.get_preferences(session, session.get_one(Org, acme))
        assert stored == Preferences(TenantMode.AUTO, 4, overridden_by_operator=True)


@pytest.mark.parametrize("hour", [-1, 24])
def test_hour_outside_the_day_is_refused(database: Database, acme: str, hour: int) -> None:
    with database.transaction() as session:
        org, alice = session.get_one(Org, acme), session.scalars(sa.select(User)).one()
        with pytest.raises(InvalidError):
            update_preferences.set_preferences(session, org, TenantMode.AUTO, hour, actor=alice, now=utcnow())
