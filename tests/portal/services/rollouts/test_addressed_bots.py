"""Tests that the database leaves out the same bots as the rule in Python."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Audience, Bot, Node, Release, SkipReason
from portal.services.rollouts import eligibility
from portal.services.rollouts.addressed_bots import LeftOut, is_updatable, list_addressed
from portal.services.rollouts.narrowing import Narrowing
from tests.support.random_rollouts import RandomRollout
from tests.support.world import World

ROUNDS = 20
SKIP_REASONS = {
    None: None,
    LeftOut.CURRENT: SkipReason.ALREADY_THERE,
    LeftOut.STOPPED: SkipReason.STOPPED,
    LeftOut.UNAVAILABLE: SkipReason.NOT_ELIGIBLE,
    LeftOut.ORGANIZATION: SkipReason.NOT_ELIGIBLE,
    LeftOut.ATTENTION: SkipReason.NOT_ELIGIBLE,
    LeftOut.PINNED: SkipReason.NOT_ELIGIBLE,
    LeftOut.HELD: SkipReason.NOT_ELIGIBLE,
    LeftOut.DECLINED: SkipReason.DECLINED,
}


@pytest.fixture
def world(database: Database) -> World:
    """Return a fleet with one node and release 1.0.0, without bots."""
    return World(database)


@pytest.mark.slow
def test_bots_are_left_out_for_the_same_reasons_as_one_by_one(world: World) -> None:
    world.add_bots(20)
    release_id = world.push("2.0.0")
    seen: set[LeftOut | None] = set()
    for seed in range(ROUNDS):
        with world.database.transaction() as session:
            release = session.get_one(Release, release_id)
            bots = session.scalars(sa.select(Bot).order_by(Bot.created_at)).all()
            chance = RandomRollout(session, seed, world.now)
            chance.change_fleet(bots, session.scalars(sa.select(Node)).all())
            chance.change_health(bots, session.scalars(sa.select(Node)).all(), [release.digest, "sha256:" + "0" * 64])
            chance.change_eligibility(bots, [release.image])
            session.flush()
            candidates = {found.bot.id: found for found in eligibility.load_candidates(session)}
            for audience in (Audience.ALL, Audience.AUTOMATIC):
                for found in list_addressed(session, release, audience, Narrowing()):
                    candidate = candidates[found.bot_id]
                    seen.add(found.left_out)
                    assert (found.left_out is LeftOut.MANUAL) == (
                        audience is Audience.AUTOMATIC and not candidate.automatic
                    ), seed
                    if found.left_out is not LeftOut.MANUAL:
                        expected = eligibility.exclusion_reason(candidate, release, audience)
                        assert SKIP_REASONS[found.left_out] is expected, f"seed {seed}: {found}"
                    assert found.may_be_canary == candidate.may_be_canary
                    assert found.hour_utc == candidate.hour_utc
            query = sa.select(Bot.id).join(Bot.org).where(is_updatable(release))
            assert set(session.scalars(query)) == {
                bot_id
                for bot_id, candidate in candidates.items()
                if eligibility.exclusion_reason(candidate, release, Audience.NAMED) is None
            }, seed
            session.rollback()
    assert seen >= {None, LeftOut.CURRENT, LeftOut.MANUAL, LeftOut.PINNED, LeftOut.ATTENTION, LeftOut.STOPPED}
