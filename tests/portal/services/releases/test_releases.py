"""A release that two people judge at the same moment."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Event, Release
from portal.services.errors import ConflictError
from portal.services.releases import releases
from tests.support.world import World


def tags(database: Database) -> list[str]:
    """What the log tells of releases, oldest first."""
    with database.reading() as session:
        query = sa.select(Event.tag).where(Event.tag.startswith("release.")).order_by(Event.id)
        return list(session.scalars(query))


def test_two_quarantines_at_once_are_one_with_the_first_reason(database: Database) -> None:
    release_id = World(database).first

    def second() -> None:
        with database.transaction() as session:
            releases.quarantine(session, session.get_one(Release, release_id), "slow", None)

    other = threading.Thread(target=second)
    with database.transaction() as session:
        releases.quarantine(session, session.get_one(Release, release_id), "eats data", None)
        session.flush()
        other.start()
        other.join(0.3)
    other.join()
    with database.reading() as session:
        assert session.get_one(Release, release_id).quarantine_reason == "eats data"
    assert tags(database) == ["release.quarantined"]


def test_a_quarantine_is_lifted_once(database: Database) -> None:
    release_id = World(database).first
    refused = []

    def second() -> None:
        with database.transaction() as session, pytest.raises(ConflictError) as refusal:
            releases.lift_quarantine(session, session.get_one(Release, release_id), "me too", None)
        refused.append(str(refusal.value))

    with database.transaction() as session:
        releases.quarantine(session, session.get_one(Release, release_id), "eats data", None)
    other = threading.Thread(target=second)
    with database.transaction() as session:
        releases.lift_quarantine(session, session.get_one(Release, release_id), "it was the disk", None)
        session.flush()
        other.start()
        other.join(0.3)
    other.join()
    assert ["not quarantined" in text for text in refused] == [True]
    assert tags(database) == ["release.quarantined", "release.released"]
