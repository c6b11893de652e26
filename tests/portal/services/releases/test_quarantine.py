"""Which update a bot can get, and how a quarantine takes a release out of updates."""

from __future__ import annotations

import pytest

from portal.database import Database
from portal.models import Bot, Channel, Release, utcnow
from portal.services.errors import ConflictError, InvalidError
from portal.services.releases import releases
from tests.support.world import IMAGE, World


@pytest.fixture
def world(database: Database) -> World:
    """One node and release 1.0.0, without bots."""
    return World(database)


def test_bot_is_outdated_when_the_tag_points_at_another_release(world: World) -> None:
    current, pinned = *world.add_bots(1), *world.add_bots(1, release_channel=Channel.PINNED)
    with world.database.reading() as session:
        assert releases.find_update(session, session.get_one(Bot, current)) is None
    new = world.push("2.0.0")

    with world.database.transaction() as session:
        bot, release = session.get_one(Bot, current), session.get_one(Release, new)
        assert releases.find_update(session, bot) is release
        assert releases.find_update(session, session.get_one(Bot, pinned)) is None
        release.platform_digests = {"linux/amd64": "sha256:" + "a" * 64}
        bot.current_digest = "sha256:" + "a" * 64
        assert releases.find_update(session, bot) is None, "the engine reports the digest of its platform"


def test_quarantined_release_is_not_offered_as_an_update(world: World) -> None:
    [bot] = world.add_bots(1)
    new, now = world.push("2.0.0"), utcnow()

    with world.database.transaction() as session:
        release = session.get_one(Release, new)
        releases.quarantine(session, release, "loses notes", now, actor=None)
        releases.quarantine(session, release, "again", now, actor=None)
        assert releases.find_target(session, IMAGE) is None
        assert releases.find_update(session, session.get_one(Bot, bot)) is None
        assert release.quarantine_reason == "loses notes"
        releases.lift_quarantine(session, release, "was the network", now, actor=None)
        assert releases.find_target(session, IMAGE) is release
        with pytest.raises(ConflictError):
            releases.lift_quarantine(session, release, "twice", now, actor=None)
    assert world.events() == ["release.quarantined", "release.released"]


def test_quarantine_needs_a_reason(world: World) -> None:
    with world.database.transaction() as session:
        release = session.get_one(Release, world.first)
        for change in (releases.quarantine, releases.lift_quarantine):
            with pytest.raises(InvalidError) as refusal:
                change(session, release, "  ", utcnow(), actor=None)
            assert refusal.value.field == "reason"
