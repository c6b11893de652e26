"""Starting rollouts and what is refused; "Update now"; pausing, aborting, trying again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    Event,
    FleetMode,
    Release,
    Rollout,
    RolloutState,
    StrategyName,
    TenantMode,
    Trigger,
    UpdateState,
    User,
)
from portal.rules.allowlist import Allowlist
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.services.releases import releases
from portal.services.rollouts import forecast, progress, rollouts, selection, transitions
from tests.support.world import ALLOWLIST, World, bad


@pytest.fixture
def world(database: Database) -> World:
    """One node and release 1.0.0; no bots yet."""
    return World(database)


@contextmanager
def loaded(world: World, bot_id: str) -> Iterator[tuple[Session, Bot, User]]:
    with world.database.transaction() as session:
        yield session, session.get_one(Bot, bot_id), session.get_one(User, world.root_id)


def update_now(world: World, bot_id: str, release_id: str) -> str:
    with loaded(world, bot_id) as (session, bot, root):
        digest = session.get_one(Release, release_id).digest
        return rollouts.update_now(session, ALLOWLIST, bot=bot, digest=digest, actor=root, trigger=Trigger.TENANT).id


def act(world: World, verb: Any, rollout_id: str, *arguments: Any, **values: Any) -> Any:
    with world.database.transaction() as session:
        return verb(session, session.get_one(Rollout, rollout_id), *arguments, **values)


def test_a_rollout_takes_every_bot_that_is_behind(world: World) -> None:
    world.add_bots(3, mode=TenantMode.MANUAL)
    world.add_bots(1, release_channel=Channel.PINNED)
    world.add_bots(1, needs_attention="restore failed")
    world.add_bots(1, image="ghcr.io/acme/bot:nightly")
    new = world.push("2.0.0")
    world.add_bots(1, current_digest="sha256:" + "200".ljust(64, "0"))

    rollout = world.start(new)

    assert world.count(rollout) == {"pending": 3}
    with world.database.reading() as session:
        event = session.scalars(sa.select(Event)).one()
        assert (event.tag, event.actor_id, event.rollout_id) == ("rollout.started", world.root_id, rollout)
        assert event.data["bots"] == 3


def test_a_stopped_bot_is_shown_as_left_out(world: World) -> None:
    world.add_bots(2)
    world.add_bots(1, state=BotState.STOPPED)
    rollout = world.start(world.push("2.0.0"))

    world.tick()

    assert world.count(rollout) == {"pending": 2, "stopped": 1}


@pytest.mark.parametrize(
    ("values", "field"),
    [({"parameters": {"percentage": 500}}, "percentage"), ({"parameters": {"hurry": 1}}, "hurry")],
)
def test_parameters_that_make_no_sense_are_refused(world: World, values: dict[str, Any], field: str) -> None:
    world.add_bots(1)
    new = world.push("2.0.0")

    with pytest.raises(InvalidError) as refused:
        world.start(new, **values)

    assert refused.value.field == field
    assert world.rollouts() == []


def test_a_quarantined_release_is_refused_even_by_hand_until_that_is_lifted(world: World) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")
    with loaded(world, bot) as (session, _, root):
        releases.quarantine(session, session.get_one(Release, new), "loses notes", root)

    with pytest.raises(ConflictError, match=r"quarantined \(loses notes\)"):
        world.start(new)
    with pytest.raises(ConflictError):
        update_now(world, bot, new)

    with loaded(world, bot) as (session, _, root):
        releases.lift_quarantine(session, session.get_one(Release, new), "it was the proxy", root)
    world.start(new)


def test_an_image_outside_the_allowlist_is_refused(world: World) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")

    with loaded(world, bot) as (session, _, root):
        rollout_request = selection.RolloutRequest(
            release=session.get_one(Release, new),
            strategy=StrategyName.IMMEDIATE,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        with pytest.raises(InvalidError, match="FLEET_IMAGE_ALLOWLIST"):
            rollouts.start_rollout(session, Allowlist.parse(["ghcr.io/acme-other"]), rollout_request, actor=root)


def test_nothing_starts_in_a_paused_fleet(world: World) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")
    world.set_mode(FleetMode.PAUSED)

    with pytest.raises(ConflictError, match="paused"):
        world.start(new)
    with pytest.raises(ConflictError, match="paused"):
        update_now(world, bot, new)


def test_nothing_to_do_is_said_so(world: World) -> None:
    with pytest.raises(rollouts.NothingToDoError, match="no bot follows"):
        world.start(world.first)
    world.add_bots(2)
    with pytest.raises(rollouts.NothingToDoError, match="2 already there"):
        world.start(world.first)
    world.set_mode(FleetMode.MANUAL)
    new = world.push("2.0.0")
    with pytest.raises(rollouts.NothingToDoError, match="no organization in automatic mode"):
        world.start(new, audience=Audience.AUTOMATIC)
    assert world.rollouts() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"state": BotState.STOPPED}, "is stopped"),
        ({"state": BotState.MISSING}, "gone from node one"),
        ({"state": BotState.MISSING, "desired_state": DesiredState.STOPPED}, "gone from node one"),
        ({"needs_attention": "restore failed"}, "needs a person first: restore failed"),
        ({"image": "ghcr.io/acme/other:stable"}, "not an image of"),
    ],
)
def test_a_named_bot_that_cannot_be_updated_is_refused_by_name(
    world: World, values: dict[str, Any], message: str
) -> None:
    [bot] = world.add_bots(1, **values)

    with pytest.raises(InvalidError, match=f"bot 0.*{message}"):
        world.start(world.push("2.0.0"), [bot])


def test_an_older_release_is_only_rolled_out_by_rolling_back(world: World) -> None:
    world.add_bots(2)
    world.push("2.0.0")
    world.start(world.push("3.0.0"))
    world.run()

    with pytest.raises(ConflictError, match=r"points at 3\.0\.0.*Roll the fleet back to 1\.0\.0"):
        world.start(world.first)

    with world.database.transaction() as session:
        first = session.get_one(Release, world.first)
        rollout = rollouts.roll_back_fleet(session, ALLOWLIST, release=first, reason="3.0.0 is slow", actor=None)
        quarantined = session.scalars(sa.select(Release).where(Release.quarantined_at.is_not(None))).all()
        assert {release.version for release in quarantined} == {"2.0.0", "3.0.0"}
        rollout_id = rollout.id
    assert world.count(rollout_id) == {"pending": 2}


def test_a_refused_roll_back_quarantines_nothing(world: World) -> None:
    world.add_bots(2)
    world.push("2.0.0")

    with world.database.transaction() as session, pytest.raises(rollouts.NothingToDoError):
        rollouts.roll_back_fleet(
            session, ALLOWLIST, release=session.get_one(Release, world.first), reason="why not", actor=None
        )

    with world.database.reading() as session:
        assert session.scalar(sa.select(Release).where(Release.quarantined_at.is_not(None))) is None


def test_update_now_ignores_the_hour_and_pressing_twice_makes_one_rollout(world: World) -> None:
    [bot] = world.add_bots(1, mode=TenantMode.MANUAL, hour=5)
    new = world.push("2.0.0")

    first, second = update_now(world, bot, new), update_now(world, bot, new)
    due = world.tick()
    world.begin(due[0])
    third = update_now(world, bot, new)
    world.end(due[0])

    assert first == second == third
    assert world.on(new) == 1
    assert world.rollout(first).trigger is Trigger.TENANT
    with pytest.raises(rollouts.NothingToDoError, match=r"bot 0 runs 2\.0\.0 already"):
        update_now(world, bot, new)


def test_update_now_takes_the_bot_out_of_a_wave_that_has_not_begun(world: World) -> None:
    bot, _ = world.add_bots(2, hour=5)
    new = world.push("2.0.0")
    world.tick()
    [automatic] = world.rollouts()

    by_hand = update_now(world, bot, new)
    world.run()

    assert world.count(automatic.id) == {"pending": 1, "taken by hand": 1}
    assert world.count(by_hand) == {"updated": 1}


def test_update_now_to_what_is_no_longer_the_newest_shows_the_newer_one(world: World) -> None:
    [bot] = world.add_bots(1)
    shown = world.push("2.0.0")
    newer = world.push("3.0.0")

    with loaded(world, bot) as (session, row, root):
        digest = session.get_one(Release, shown).digest
        with pytest.raises(rollouts.NewerReleaseError) as refused:
            rollouts.update_now(session, ALLOWLIST, bot=row, digest=digest, actor=root, trigger=Trigger.TENANT)
        assert refused.value.release.id == newer

    assert world.rollouts() == []


def test_a_failed_update_now_condemns_nobody_else(world: World) -> None:
    [bot] = world.add_bots(1, mode=TenantMode.MANUAL)
    new = world.push("2.0.0")
    rollout = update_now(world, bot, new)

    world.run(bad)

    assert world.rollout(rollout).state is RolloutState.COMPLETED
    assert world.count(rollout) == {"rolled_back": 1}
    with world.database.reading() as session:
        assert session.get_one(Release, new).quarantined_at is None


def test_a_paused_rollout_lets_bots_in_flight_finish_and_starts_no_other(world: World) -> None:
    world.add_bots(4)
    new = world.push("2.0.0")
    rollout = world.start(new, strategy=StrategyName.IMMEDIATE)
    flying, late = world.tick()
    world.begin(flying)
    act(world, transitions.pause_rollout, rollout, "lunch", None)

    world.work([late])
    assert world.tick() == []
    world.end(flying)
    assert (world.on(new), world.rollout(rollout).reason) == (1, "lunch")

    act(world, transitions.resume_rollout, rollout, None)
    world.run()
    assert world.on(new) == 4
    assert world.events() == ["rollout.started", "rollout.paused", "rollout.resumed", "rollout.completed"]


def test_aborting_skips_what_has_not_begun(world: World) -> None:
    world.add_bots(4)
    rollout = world.start(world.push("2.0.0"))
    [canary] = world.tick()
    world.begin(canary)

    act(world, transitions.abort_rollout, rollout, "wrong day", None)
    world.end(canary)

    assert world.rollout(rollout).state is RolloutState.ABORTED
    assert world.count(rollout) == {"updated": 1, "aborted": 3}
    with world.database.reading() as session:
        assert session.get_one(Rollout, rollout).release.quarantined_at is None


@pytest.mark.parametrize("by", ["aborting", "update now", "another mode"])
def test_a_bot_left_out_between_two_attempts_shows_no_error(world: World, by: str) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")
    rollout_id = world.start(new)
    with world.database.transaction() as session:
        update = session.query(BotUpdate).one()
        update.error, update.transient = "the registry was away", True
        if by == "another mode":
            update.bot.desired_state = DesiredState.STOPPED

    if by == "aborting":
        act(world, transitions.abort_rollout, rollout_id, "enough", None)
    elif by == "update now":
        update_now(world, bot, new)
    else:
        world.tick()

    with world.database.reading() as session:
        skipped = session.query(BotUpdate).filter_by(rollout_id=rollout_id).one()
    assert (skipped.state, skipped.error, skipped.transient) == (UpdateState.SKIPPED, None, False)


def test_what_has_ended_can_neither_be_paused_nor_resumed_nor_aborted(world: World) -> None:
    world.add_bots(1)
    rollout = world.start(world.push("2.0.0"))
    with pytest.raises(ConflictError, match="only a paused one"):
        act(world, transitions.resume_rollout, rollout, None)
    act(world, transitions.abort_rollout, rollout, "wrong day", None, quarantine=True)

    for verb, arguments in (
        (transitions.pause_rollout, ["x", None]),
        (transitions.resume_rollout, [None]),
        (transitions.abort_rollout, ["x", None]),
    ):
        with pytest.raises(ConflictError, match="aborted"):
            act(world, verb, rollout, *arguments)
    assert world.count(rollout) == {"quarantined": 1}


def test_trying_again_is_a_rollout_of_the_failed_bots_alone(world: World) -> None:
    bots = world.add_bots(6)
    new = world.push("2.0.0")
    rollout = world.start(new)
    world.run(lambda bot: "bad" if bot.id in bots[4:] else "good")

    with world.database.transaction() as session:
        again = rollouts.retry_failed(session, ALLOWLIST, session.get_one(Rollout, rollout), None).id
    world.run()

    assert world.count(again) == {"updated": 2}
    assert world.on(new) == 6
    with world.database.transaction() as session, pytest.raises(rollouts.NothingToDoError):
        rollouts.retry_failed(session, ALLOWLIST, session.get_one(Rollout, rollout), None)


def test_the_summary_adds_up_and_speaks(world: World) -> None:
    bots = world.add_bots(8)
    rollout = world.start(world.push("2.0.0"))
    world.work(world.tick())
    world.now += timedelta(seconds=61)
    due = world.tick()
    world.work(due, lambda bot: "bad" if bot.id == bots[1] else "good")

    with world.database.reading() as session:
        summary = progress.summarize(session, session.get_one(Rollout, rollout), world.now)

    assert summary.words == "wave 2 of 5 · 2 of 8 updated · 1 rolled back"
    assert summary.total == sum(summary.counts.values()) == sum(len(wave.updates) for wave in summary.waves)
    assert [wave.number for wave in summary.waves] == [1, 2, None]
    assert (summary.updated, summary.failed) == (2, 1)


def test_the_forecast_says_what_then_happens(world: World) -> None:
    world.add_bots(9)
    new = world.push("2.0.0")
    with world.database.reading() as session:
        rollout_request = selection.RolloutRequest(
            release=session.get_one(Release, new),
            strategy=StrategyName.ROLLING_WAVE,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        told = forecast.forecast_rollout(session, ALLOWLIST, rollout_request, world.now)
    rollout = world.start(new)
    world.run()

    with world.database.reading() as session:
        waves = progress.summarize(session, session.get_one(Rollout, rollout), world.now).waves
    assert [wave.bots for wave in told.waves] == [len(wave.updates) for wave in waves]


def test_an_unknown_rollout_is_not_found(world: World) -> None:
    with world.database.reading() as session, pytest.raises(NotFoundError):
        rollouts.get_rollout(session, "nosuch")
