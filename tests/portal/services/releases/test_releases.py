"""Quarantine of a release by two operators at the same moment."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Event, Release, utcnow
from portal.services.errors import ConflictError
from portal.services.releases import releases
from tests.support.world import World

NOW = utcnow()


def list_tags(database: Database) -> list[str]:
    """List the tags of events about releases, oldest first."""
    with database.reading() as session:
        query = sa.select(Event.tag).where(Event.tag.startswith("release.")).order_by(Event.id)
        return list(session.scalars(query))


def test_of_two_concurrent_quarantines_the_first_reason_stays(database: Database) -> None:
    release_id = World(database).first

    def second() -> None:
        with database.transaction() as session:
            releases.quarantine(session, session.get_one(Release, release_id), "slow", NOW, actor=None)

    other = threading.Thread(target=second)
    with database.transaction() as session:
        releases.quarantine(session, session.get_one(Release, release_id), "eats data", NOW, actor=None)
        session.flush()
        other.start()
        other.join(0.3)
    other.join()
    with database.reading() as session:
        assert session.get_one(Release, release_id).quarantine_reason == "eats data"
    assert list_tags(database) == ["release.quarantined"]


def test_a_quarantine_is_lifted_once(database: Database) -> None:
    release_id = World(database).first
    refused = []

    def second() -> None:
        with database.transaction() as session, pytest.raises(ConflictError) as refusal:
            releases.lift_quarantine(session, session.get_one(Release, release_id), "me too", NOW, actor=None)
        refused.append(str(refusal.value))

    with database.transaction() as session:
        releases.quarantine(session, session.get_one(Release, release_id), "eats data", NOW, actor=None)
    other = threading.Thread(target=second)
    with database.transaction() as session:
        releases.lift_quarantine(session, session.get_one(Release, release_id), "it was the disk", NOW, actor=None)
        session.flush()
        other.start()
        other.join(0.3)
    other.join()
    assert ["not quarantined" in text for text in refused] == [True]
    assert list_tags(database) == ["release.quarantined", "release.released"]
