"""Which images nobody needs on a node any more."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotUpdate, Node, ReadingPull, Release, Rollout, RolloutState, UpdateState
from portal.services.bots import leftovers, nodes
from portal.services.releases import changelogs
from tests.support.world import REPOSITORY, World


@pytest.fixture
def world(database: Database) -> World:
    """A bot that went from 1.0.0 to 2.0.0 and to 3.0.0; each time its new container was made."""
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
    """Of a release, or of the one so many before it."""
    return f"sha256:{str(int(version[0]) + step) + '00':0<64}"


def over(world: World, after: timedelta = timedelta(days=8)) -> list[str]:
    """Versions of the images that are over so long after everything happened."""
    before: datetime = world.now + after - timedelta(days=7)
    with world.database.reading() as session:
        images = leftovers.list_unneeded_images(session, world.node_id, before)
    known = {f"{REPOSITORY}@{_digest(version)}": version for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0")}
    return [known[image] for image in images]


def set_back(world: World, state: UpdateState = UpdateState.ROLLED_BACK) -> None:
    """The bot tries 4.0.0 in vain, and the tag points at what it runs again."""
    world.push("4.0.0")
    world.run()
    with world.database.transaction() as session:
        last = session.scalars(
            sa.select(BotUpdate).join(Rollout).join(Release).where(Release.digest == _digest("4.0.0"))
        ).one()
        last.state, last.new_container_id = state, "made"
        last.previous_digest = _digest("3.0.0")
        session.get_one(Bot, last.bot_id).current_digest = _digest("3.0.0")
    world.push("3.0.0")


def test_what_a_bot_runs_and_ran_before_stays(world: World) -> None:
    assert over(world) == []


def test_what_nobody_runs_goes_after_a_week(world: World) -> None:
    set_back(world)
    assert over(world, timedelta(days=6)) == []
    assert over(world) == ["4.0.0"]


def test_the_release_before_the_previous_one_goes(world: World) -> None:
    world.push("4.0.0")
    world.run()
    with world.database.transaction() as session:
        for update in session.scalars(sa.select(BotUpdate).where(BotUpdate.previous_digest.is_(None))):
            update.previous_digest, update.new_container_id = _digest("3.0.0"), "made"
    # 1.0.0 was never pulled by an update: it is not ours to remove.
    assert over(world) == ["2.0.0"]


def test_what_is_on_its_way_or_pointed_at_stays(world: World) -> None:
    set_back(world)
    world.push("4.0.0")
    assert over(world) == []
    world.push("3.0.0")
    with world.database.transaction() as session:
        rollout = session.scalars(sa.select(Rollout).join(Release).where(Release.digest == _digest("4.0.0"))).one()
        rollout.state = RolloutState.PAUSED
    assert over(world) == []


def test_what_an_update_in_flight_brings_stays(world: World) -> None:
    set_back(world, UpdateState.RUNNING)
    assert over(world) == []


def test_what_no_container_was_made_of_is_not_ours(world: World) -> None:
    set_back(world)
    with world.database.transaction() as session:
        session.execute(sa.update(BotUpdate).values(new_container_id=None))
    assert over(world) == []


def read_on(world: World, version: str, node_id: str | None = None) -> None:
    """The engine of a node, of the bot's unless another is named, pulls a release to have its changelog read."""
    with world.database.transaction() as session:
        release = session.scalars(sa.select(Release).where(Release.digest == _digest(version))).one()
        changelogs.record_pull(session, release.id, node_id or world.node_id, world.now)


def test_what_was_pulled_only_to_be_read_goes_after_a_week(world: World) -> None:
    world.push("4.0.0")
    read_on(world, "4.0.0")
    assert over(world) == []  # the tag points at it
    world.push("3.0.0")
    assert over(world, timedelta(days=6)) == []
    assert over(world) == ["4.0.0"]


def test_what_was_pulled_elsewhere_to_be_read_is_not_ours(world: World) -> None:
    with world.database.transaction() as session:
        other = Node(name="two", docker_url="unix:///nowhere", snapshot_dir="/nowhere")
        session.add(other)
    world.push("4.0.0")
    read_on(world, "4.0.0", other.id)
    world.push("3.0.0")
    assert over(world) == []


def test_what_was_read_long_ago_and_tried_lately_stays(world: World) -> None:
    world.push("4.0.0")
    read_on(world, "4.0.0")
    world.now += timedelta(days=5)
    set_back(world)
    assert over(world, timedelta(days=6)) == []
    assert over(world) == ["4.0.0"]


def test_what_was_read_and_is_run_stays(world: World) -> None:
    read_on(world, "2.0.0")
    read_on(world, "3.0.0")
    assert over(world) == []


def test_a_pasted_digest_keeps_no_image(world: World) -> None:
    pasted = world.push("4.0.0", f"{REPOSITORY}@{_digest('4.0.0')}")
    read_on(world, "4.0.0")
    assert over(world) == ["4.0.0"]
    with world.database.reading() as session:
        bot_ids = session.scalars(sa.select(Bot.id)).all()
    world.start(pasted, bot_ids)
    assert over(world) == []


def test_a_node_that_goes_takes_its_notes_along(world: World) -> None:
    with world.database.transaction() as session:
        other = Node(name="two", docker_url="unix:///nowhere", snapshot_dir="/nowhere")
        session.add(other)
    read_on(world, "3.0.0", other.id)
    with world.database.transaction() as session:
        nodes.remove_node(session, session.get_one(Node, other.id))
        assert session.scalars(sa.select(ReadingPull)).all() == []
