"""Images that are no longer needed on a node."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotUpdate, Node, ReadingPull, Release, Rollout, RolloutState, UpdateState
from portal.services.bots import leftovers, nodes
from portal.services.releases import changelogs
from tests import factories
from tests.support.world import REPOSITORY, World


@pytest.fixture
def world(database: Database) -> World:
    """A bot that was updated from 1.0.0 to 2.0.0 and to 3.0.0, each time with a new container."""
    world = World(database)
    world.add_bots(1)
    for version in ("2.0.0", "3.0.0"):
        world.push(version)
        world.run()
        with database.transaction() as session:
            for update in session.scalars(sa.select(BotUpdate)):
                update.previous_digest = update.previous_digest or _digest(version, -1)
                update.new_container_id = update.id
    return world


def _digest(version: str, step: int = 0) -> str:
    """Return the digest of a release, or of the release `step` versions later."""
    return f"sha256:{str(int(version[0]) + step) + '00':0<64}"


def list_unneeded(world: World, after: timedelta = timedelta(days=8)) -> list[str]:
    """Return the versions of the images that are unneeded some time after the last event."""
    before: datetime = world.now + after - timedelta(days=7)
    with world.database.reading() as session:
        images = leftovers.list_unneeded_images(session, world.node_id, before)
    known = {f"{REPOSITORY}@{_digest(version)}": version for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0")}
    return [known[image] for image in images]


def roll_back(world: World, state: UpdateState = UpdateState.ROLLED_BACK) -> None:
    """Roll back an update of the bot to 4.0.0, and move the tag back to 3.0.0."""
    world.push("4.0.0")
    world.run()
    with world.database.transaction() as session:
        last = session.scalars(
            sa.select(BotUpdate).join(Rollout).join(Release).where(Release.digest == _digest("4.0.0"))
        ).one()
        last.state, last.new_container_id = state, "created"
        last.previous_digest = _digest("3.0.0")
        session.get_one(Bot, last.bot_id).current_digest = _digest("3.0.0")
    world.push("3.0.0")


def test_current_and_previous_release_of_a_bot_are_kept(world: World) -> None:
    assert list_unneeded(world) == []


def test_unused_release_is_unneeded_after_a_week(world: World) -> None:
    roll_back(world)
    assert list_unneeded(world, timedelta(days=6)) == []
    assert list_unneeded(world) == ["4.0.0"]


def test_release_before_the_previous_one_is_unneeded(world: World) -> None:
    world.push("4.0.0")
    world.run()
    with world.database.transaction() as session:
        for update in session.scalars(sa.select(BotUpdate).where(BotUpdate.previous_digest.is_(None))):
            update.previous_digest, update.new_container_id = _digest("3.0.0"), "made"
    # 1.0.0 was never pulled by an update, so Flotilla does not remove it.
    assert list_unneeded(world) == ["2.0.0"]


def test_release_of_a_tag_or_an_open_rollout_is_kept(world: World) -> None:
    roll_back(world)
    world.push("4.0.0")
    assert list_unneeded(world) == []
    world.push("3.0.0")
    with world.database.transaction() as session:
        rollout = session.scalars(sa.select(Rollout).join(Release).where(Release.digest == _digest("4.0.0"))).one()
        rollout.state = RolloutState.PAUSED
    assert list_unneeded(world) == []


def test_release_of_a_running_update_is_kept(world: World) -> None:
    roll_back(world, UpdateState.RUNNING)
    record_changelog_pull(world, "4.0.0")
    with world.database.transaction() as session:
        session.execute(sa.update(BotUpdate).where(BotUpdate.state == UpdateState.RUNNING).values(ended_at=None))
    assert list_unneeded(world) == []


def test_release_without_a_created_container_is_kept(world: World) -> None:
    roll_back(world)
    with world.database.transaction() as session:
        session.execute(sa.update(BotUpdate).values(new_container_id=None))
    assert list_unneeded(world) == []


def record_changelog_pull(world: World, version: str, node_id: str | None = None) -> None:
    """Record that a node, by default that of the bot, pulled a release to read its changelog."""
    with world.database.transaction() as session:
        release = session.scalars(sa.select(Release).where(Release.digest == _digest(version))).one()
        changelogs.record_pull(session, release.id, node_id or world.node_id, world.now)


def test_release_pulled_only_for_its_changelog_is_unneeded_after_a_week(world: World) -> None:
    world.push("4.0.0")
    record_changelog_pull(world, "4.0.0")
    assert list_unneeded(world) == []  # the tag points at this release
    world.push("3.0.0")
    assert list_unneeded(world, timedelta(days=6)) == []
    assert list_unneeded(world) == ["4.0.0"]


def test_release_pulled_by_another_node_is_kept(world: World) -> None:
    with world.database.transaction() as session:
        other = factories.node(session, "two")
    world.push("4.0.0")
    record_changelog_pull(world, "4.0.0", other.id)
    world.push("3.0.0")
    assert list_unneeded(world) == []


def test_week_starts_at_the_last_use_of_a_release(world: World) -> None:
    world.push("4.0.0")
    record_changelog_pull(world, "4.0.0")
    world.now += timedelta(days=5)
    roll_back(world)
    assert list_unneeded(world, timedelta(days=6)) == []
    assert list_unneeded(world) == ["4.0.0"]


def test_release_pulled_for_its_changelog_and_in_use_is_kept(world: World) -> None:
    record_changelog_pull(world, "2.0.0")
    record_changelog_pull(world, "3.0.0")
    assert list_unneeded(world) == []


def test_pasted_digest_does_not_keep_an_image(world: World) -> None:
    pasted = world.push("4.0.0", f"{REPOSITORY}@{_digest('4.0.0')}")
    record_changelog_pull(world, "4.0.0")
    assert list_unneeded(world) == ["4.0.0"]
    with world.database.reading() as session:
        bot_ids = session.scalars(sa.select(Bot.id)).all()
    world.start(pasted, bot_ids)
    assert list_unneeded(world) == []


def test_removal_of_a_node_deletes_its_changelog_pulls(world: World) -> None:
    with world.database.transaction() as session:
        other = factories.node(session, "two")
    record_changelog_pull(world, "3.0.0", other.id)
    with world.database.transaction() as session:
        nodes.remove_node(session, session.get_one(Node, other.id))
        assert session.scalars(sa.select(ReadingPull)).all() == []
