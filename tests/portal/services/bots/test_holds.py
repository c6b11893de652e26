"""Tests of holds: rollouts leave held bots out until the moment comes, unless they name them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from portal.database import Database
from portal.models import Audience, Bot, BotPhase, Event, Release, Rollout, SkipReason, Trigger, User, utcnow
from portal.rules.allowlist import Allowlist
from portal.services.bots import fleet_status, holds
from portal.services.errors import ConflictError, InvalidError
from portal.services.releases import releases
from portal.services.rollouts import eligibility, eligibility_changes, rollouts
from portal.services.rollouts.fleet_facts import load_fleet
from tests.support.scene import Scene, rollout

DAY = timedelta(days=1)
ALLOWLIST = Allowlist.parse(["registry.example"])


def hold(database: Database, scene: Scene) -> None:
    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        holds.hold_updates(session, bot, utcnow() + DAY, " audit \n", now=utcnow(), actor=None)


def test_rollouts_leave_a_held_bot_out_unless_they_name_it(scene: Scene, database: Database) -> None:
    hold(database, scene)
    with database.reading() as session:
        release = session.get_one(Release, scene.new)
        (candidate,) = eligibility.load_named(session, scene.bots[:1])
        for audience, reason in {
            Audience.AUTOMATIC: SkipReason.NOT_ELIGIBLE,
            Audience.ALL: SkipReason.NOT_ELIGIBLE,
            Audience.NAMED: None,
        }.items():
            assert eligibility.exclusion_reason(candidate, release, audience) is reason
        assert releases.find_update(session, candidate.bot) is None
        assert fleet_status.load_status(session, utcnow()).outdated == 2


def test_held_bot_leaves_the_rollout_in_which_it_waits(scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        waiting = rollout(session, scene, [])
        waiting.audience = Audience.ALL
        rollouts.add_bots(session, waiting, scene.bots)
    hold(database, scene)
    with database.reading() as session:
        fleet = load_fleet(session, utcnow(), None)
        row = rollouts.get_rollout(session, waiting.id)
        changes = eligibility_changes.find_changes(session, [row], [row.id], fleet)[row.id]
    assert [len(ids) for reason, ids in changes.ineligible.items()] == [1]
    assert set(changes.ineligible) == {SkipReason.NOT_ELIGIBLE}


def test_organization_cannot_update_a_held_bot(scene: Scene, database: Database) -> None:
    hold(database, scene)
    with database.transaction() as session:
        bot, owner = session.get_one(Bot, scene.bots[0]), session.query(User).first()

        def update_now(trigger: Trigger) -> Rollout:
            return rollouts.update_now(
                session, ALLOWLIST, utcnow(), bot=bot, digest=scene.new_digest, actor=owner, trigger=trigger
            )

        with pytest.raises(ConflictError, match="Your provider holds the updates"):
            update_now(Trigger.TENANT)
        assert update_now(Trigger.OPERATOR).audience is Audience.NAMED


def test_hold_ends_when_its_moment_comes(scene: Scene, database: Database) -> None:
    hold(database, scene)
    for now, is_held in ((utcnow(), True), (utcnow() + 2 * DAY, False)):
        with database.transaction() as session:
            holds.end_expired(session, now)
        with database.reading() as session:
            bot = session.get_one(Bot, scene.bots[0])
            assert (bot.held_until is not None) is is_held
            assert (bot.hold_reason == "audit") is is_held
    with database.reading() as session:
        tags = [event.tag for event in session.query(Event).filter_by(bot_id=scene.bots[0]).order_by(Event.id)]
    assert tags[-2:] == ["bot.updates_held", "bot.hold_ended"]


def test_invalid_holds_are_refused(scene: Scene, database: Database) -> None:
    now = utcnow()
    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        for until, reason in ((now, "x"), (now + 400 * DAY, "x"), (now + DAY, " ")):
            with pytest.raises(InvalidError):
                holds.hold_updates(session, bot, until, reason, now=now, actor=None)
        with pytest.raises(ConflictError, match="are not held"):
            holds.end_hold(session, bot, actor=None)
        bot.phase = BotPhase.CREATING
        session.flush()
        with pytest.raises(ConflictError, match="no updates to hold"):
            holds.hold_updates(session, bot, now + DAY, "x", now=now, actor=None)
        assert bot.held_until is None
