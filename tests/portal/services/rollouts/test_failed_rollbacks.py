"""Failed rollbacks that an operator lets a worker continue: requests, refusals, races."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotUpdate,
    Event,
    Org,
    OrgState,
    OutgoingMail,
    Rollout,
    Snapshot,
    SnapshotState,
    Step,
    UpdateState,
    User,
    Verdict,
)
from portal.rules.planner import STALL_AFTER
from portal.services.bots import attention, snapshots
from portal.services.errors import ConflictError
from portal.services.rollouts import failed_rollbacks, outcomes, updates
from portal.services.rollouts.outcomes import Outcome
from portal.services.rollouts.update_facts import load_facts
from portal.services.rollouts.updates import ClaimResult
from tests.support.world import World

INSTRUCTIONS = "docker start 1234"
NOW = datetime(2100, 5, 4, 3, 5, tzinfo=UTC)
"""The moment of the fleet."""
LONG_AGO = NOW - 2 * STALL_AFTER


@pytest.fixture
def world(database: Database) -> World:
    """One node and release 1.0.0, with one bot whose rollback from 2.0.0 failed."""
    world = World(database)
    world.add_bots(1, container_id="c" * 64)
    world.push("2.0.0")
    world.tick()
    with database.transaction() as session:
        update = session.scalars(sa.select(BotUpdate)).one()
        assert updates.claim_update(session, update.id, NOW) is ClaimResult.START
        update.verdict, update.error = Verdict.FAILED, "answered 503"
        updates.enter_step(session, update, Step.ROLLBACK, LONG_AGO)
        snapshots.record_start(session, update.id, update.bot.node_id, {"data": "/archives/data.tar"})
        snapshots.mark_verified(session, update.id, "data")
        flag(update)
    return world


def flag(update: BotUpdate, now: datetime = NOW) -> None:
    """Mark the bot of an update as needing attention, as its worker does."""
    session = sa.inspect(update).session
    assert session is not None
    outcomes.mark_needs_attention(session, update, f"{update.error}. The rollback failed too", INSTRUCTIONS, now)


def load(world: World) -> BotUpdate:
    """Return the update with its bot and rollout."""
    with world.database.reading() as session:
        update = session.scalars(sa.select(BotUpdate)).one()
        assert update.bot.node
        assert update.rollout.release
        return update


def request(world: World) -> None:
    """Request to continue the rollback, as an operator."""
    with world.database.transaction() as session:
        bot = session.scalars(sa.select(Bot)).one()
        failed_rollbacks.request(session, bot, now=NOW, actor=session.get_one(User, world.root_id))


def list_tags(world: World) -> list[str]:
    """Return the tags of the bot's events about the recovery."""
    with world.database.reading() as session:
        tags = session.scalars(sa.select(Event.tag).where(Event.bot_id.is_not(None)).order_by(Event.id))
        return [tag for tag in tags if "recover" in tag]


def test_requested_rollback_is_taken_over_by_a_worker(world: World) -> None:
    request(world)
    update = load(world)
    assert (update.state, update.step, update.verdict) == (UpdateState.RUNNING, Step.ROLLBACK, Verdict.FAILED)
    assert (update.ended_at, update.error) == (None, "answered 503")
    assert update.bot.needs_attention == INSTRUCTIONS
    with world.database.transaction() as session:
        assert updates.claim_update(session, update.id, NOW) is ClaimResult.RECOVER
        assert updates.list_abandoned(session, NOW) == [(update.id, update.bot.node_id)]
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.recovery_requested")).one()
        assert (event.actor_id, event.bot_id) == (world.root_id, update.bot_id)


def test_completed_rollback_ends_the_need_for_attention(world: World) -> None:
    request(world)
    with world.database.transaction() as session:
        update = session.scalars(sa.select(BotUpdate)).one()
        rolled_back = Outcome(state=UpdateState.ROLLED_BACK)
        outcomes.mark_rolled_back(session, update, rolled_back, "c" * 64, "127.0.0.1:1", answers=True, now=NOW)
    update = load(world)
    assert (update.state, update.error, update.bot.needs_attention) == (UpdateState.ROLLED_BACK, "answered 503", None)
    assert update.bot.state is BotState.RUNNING
    assert list_tags(world) == ["bot.recovery_requested", "bot.recovered"]
    with pytest.raises(ConflictError, match="does not need attention"):
        request(world)


def test_rollback_that_fails_again_can_be_continued_again_and_calls_an_operator(world: World) -> None:
    with world.database.transaction() as session:
        session.get_one(User, world.root_id).is_platform_admin = True
    for number in (1, 2):
        request(world)
        with world.database.transaction() as session:
            flag(session.scalars(sa.select(BotUpdate)).one(), NOW + timedelta(minutes=number))
            mails = session.scalars(sa.select(OutgoingMail).where(OutgoingMail.template == "rollback_failed")).all()
            assert len(mails) == number
        update = load(world)
        assert update.state is UpdateState.NEEDS_ATTENTION
        assert (update.error, update.bot.needs_attention) == ("answered 503. The rollback failed too", INSTRUCTIONS)


def test_two_requests_at_once_do_one_thing(world: World) -> None:
    def try_to_request(_: int) -> bool:
        try:
            request(world)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(try_to_request, range(4))) == [False, False, False, True]
    assert list_tags(world) == ["bot.recovery_requested"]


def test_bot_cannot_be_marked_as_fixed_while_its_rollback_is_continued(world: World) -> None:
    request(world)
    with world.database.transaction() as session:
        bot = session.scalars(sa.select(Bot)).one()
        bot.state = BotState.RUNNING
        assert failed_rollbacks.is_continuing(session, bot)
        with pytest.raises(ConflictError, match="being continued"):
            attention.clear_attention(session, bot, "done", actor=None)


def test_continued_rollback_does_not_stall_its_rollout(world: World) -> None:
    request(world)
    with world.database.transaction() as session:
        rollout = session.scalars(sa.select(Rollout)).one()
        (target,) = load_facts(session, [rollout])[rollout.id].in_flight
        assert target.progress_at is not None
        assert target.progress_at > NOW - STALL_AFTER


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"needs_attention": None}, "does not need attention"),
        ({"phase": BotPhase.REMOVING}, "does not need attention"),
        ({"container_id": "d" * 64}, "has another container"),
    ],
    ids=["fixed", "removing", "attached"],
)
def test_rollback_of_a_changed_bot_is_not_continued(world: World, changes: dict[str, Any], refusal: str) -> None:
    with world.database.transaction() as session:
        session.execute(sa.update(Bot).values(**changes))
    with pytest.raises(ConflictError, match=refusal):
        request(world)
    assert load(world).state is UpdateState.NEEDS_ATTENTION


@pytest.mark.parametrize("state", [SnapshotState.TAKING, SnapshotState.DELETED])
def test_refusal_names_the_volume_without_an_archive(world: World, state: SnapshotState) -> None:
    with world.database.transaction() as session:
        session.execute(sa.update(Snapshot).values(state=state))
    with pytest.raises(ConflictError, match="no verified archive of the volume data"):
        request(world)
    with world.database.transaction() as session:
        session.execute(sa.update(BotUpdate).values(verdict=None))
    request(world)  # the new container never ran, so no volume has to be restored


def test_bot_without_a_failed_rollback_is_not_continued(world: World) -> None:
    with world.database.transaction() as session:
        session.execute(sa.update(BotUpdate).values(state=UpdateState.ROLLED_BACK))
    with pytest.raises(ConflictError, match="no failed rollback"):
        request(world)


def test_rollback_is_not_continued_while_the_organization_is_deleted(world: World) -> None:
    with world.database.transaction() as session:
        session.execute(sa.update(Org).values(state=OrgState.DELETING))
    with pytest.raises(ConflictError, match="is being deleted"):
        request(world)
