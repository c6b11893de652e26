"""The journal of an update: claim, unfinished updates, requeue, steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from portal.database import Database, database_now
from portal.models import (
    Bot,
    BotUpdate,
    DesiredState,
    FleetSettings,
    Rollout,
    RolloutState,
    SkipReason,
    Step,
    UpdateState,
    utcnow,
)
from portal.services.bots import leases
from portal.services.rollouts import updates
from portal.services.rollouts.updates import ClaimResult
from tests import factories

OLD, NEW, PLATFORM = (f"sha256:{character * 64}" for character in "abc")
NOW = utcnow()
LATER = NOW + timedelta(days=1)


@pytest.fixture
def bot_id(database: Database) -> str:
    """Create a running bot on an old release."""
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        return factories.bot(session, org, factories.node(session), current_digest=OLD).id


def add_update(database: Database, bot_id: str, digest: str = NEW, **values: Any) -> str:
    """Add a due update of the bot in a running rollout of a new release; `values` change the update."""
    with database.transaction() as session:
        rollout = factories.rollout(session, factories.release(session, digest=digest), state=RolloutState.RUNNING)
        return factories.update(session, rollout, session.get_one(Bot, bot_id), **{"wave": 1, **values}).id


def claim(database: Database, update_id: str) -> ClaimResult:
    """Claim an update as a worker does."""
    with database.transaction() as session:
        return updates.claim_update(session, update_id, NOW)


def read(database: Database, update_id: str) -> BotUpdate:
    """Load the current row."""
    with database.reading() as session:
        return session.get_one(BotUpdate, update_id)


def test_a_due_update_starts_once(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id)
    assert claim(database, update_id) is ClaimResult.START
    update = read(database, update_id)
    assert (update.state, update.step, update.attempt) == (UpdateState.RUNNING, Step.CLAIM, 1)
    assert update.previous_digest == OLD
    assert claim(database, update_id) is ClaimResult.RECOVER


@pytest.mark.parametrize(
    "values",
    [
        {"wave": None},
        {"not_before": LATER},
        {"state": UpdateState.FAILED, "cleaned_at": LATER},
        {"state": UpdateState.SKIPPED},
    ],
    ids=["no wave", "retry wait", "failed", "skipped"],
)
def test_an_update_that_is_not_due_does_not_change(database: Database, bot_id: str, values: dict[str, Any]) -> None:
    update_id = add_update(database, bot_id, **values)
    assert claim(database, update_id) is ClaimResult.NOTHING
    assert read(database, update_id).state is values.get("state", UpdateState.PENDING)


@pytest.mark.parametrize("state", set(RolloutState) - {RolloutState.RUNNING})
def test_an_update_starts_only_in_a_running_rollout(database: Database, bot_id: str, state: RolloutState) -> None:
    update_id = add_update(database, bot_id)
    with database.transaction() as session:
        session.get_one(BotUpdate, update_id).rollout.state = state
    assert claim(database, update_id) is ClaimResult.NOTHING
    assert read(database, update_id).state is UpdateState.PENDING


@pytest.mark.parametrize(
    ("release", "bot", "reason"),
    [
        ({"quarantined_at": LATER}, {}, SkipReason.QUARANTINED),
        ({}, {"current_digest": NEW}, SkipReason.ALREADY_THERE),
        ({"platform_digests": {"linux/amd64": PLATFORM}}, {"current_digest": PLATFORM}, SkipReason.ALREADY_THERE),
        ({}, {"desired_state": DesiredState.STOPPED}, SkipReason.STOPPED),
        ({}, {"needs_attention": "docker start 1234"}, SkipReason.NOT_ELIGIBLE),
    ],
    ids=["quarantined", "already there", "already there by platform", "stopped", "needs attention"],
)
def test_an_update_of_an_ineligible_bot_is_skipped(
    database: Database, bot_id: str, release: dict[str, Any], bot: dict[str, Any], reason: SkipReason
) -> None:
    update_id = add_update(database, bot_id)
    with database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        for row, values in ((update.rollout.release, release), (update.bot, bot)):
            for name, value in values.items():
                setattr(row, name, value)
    assert claim(database, update_id) is ClaimResult.NOTHING
    update = read(database, update_id)
    assert (update.state, update.skip_reason) == (UpdateState.SKIPPED, reason)


def test_an_update_skipped_after_a_failed_attempt_has_no_error(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id, error="the registry is away", transient=True)
    with database.transaction() as session:
        session.get_one(BotUpdate, update_id).bot.desired_state = DesiredState.STOPPED
    claim(database, update_id)
    update = read(database, update_id)
    assert (update.state, update.error, update.transient) == (UpdateState.SKIPPED, None, False)


def test_a_claim_after_the_window_has_closed_starts_nothing(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id)
    with database.transaction() as session:
        session.get_one(BotUpdate, update_id).rollout.ignore_windows = False
        session.get_one(FleetSettings, 1).tenant_hour_utc = (NOW.hour + 12) % 24
    assert claim(database, update_id) is ClaimResult.NOTHING
    assert read(database, update_id).state is UpdateState.PENDING


@pytest.mark.parametrize("state", [UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED])
def test_an_ended_update_is_cleaned_up_once(database: Database, bot_id: str, state: UpdateState) -> None:
    update_id = add_update(database, bot_id, state=state)
    assert claim(database, update_id) is ClaimResult.CLEAN
    with database.transaction() as session:
        updates.record(session, session.get_one(BotUpdate, update_id), cleaned_at=NOW)
    assert claim(database, update_id) is ClaimResult.NOTHING


def test_unfinished_updates_are_listed_while_no_worker_holds_the_bot(database: Database, bot_id: str) -> None:
    running = add_update(database, bot_id, state=UpdateState.RUNNING)
    uncleaned = add_update(database, bot_id, digest=OLD, state=UpdateState.ROLLED_BACK)
    add_update(database, bot_id, digest=PLATFORM, state=UpdateState.NEEDS_ATTENTION)

    def list_abandoned() -> set[str]:
        with database.reading() as session:
            return {update_id for update_id, _ in updates.list_abandoned(session, database_now(session))}

    assert list_abandoned() == {running, uncleaned}
    with database.transaction() as session:
        leases.acquire(session, bot_id, "a worker")
    assert list_abandoned() == set()


def test_unfinished_updates_of_the_same_bot_are_listed(database: Database, bot_id: str) -> None:
    unfinished = add_update(database, bot_id, state=UpdateState.RUNNING)
    add_update(database, bot_id, digest=OLD, state=UpdateState.UPDATED, cleaned_at=LATER)
    waiting = add_update(database, bot_id, digest=PLATFORM)
    with database.reading() as session:
        assert updates.list_unfinished(session, session.get_one(BotUpdate, waiting)) == [unfinished]


def test_an_interrupted_update_is_requeued_at_most_twice(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id)
    attempts = 0
    while claim(database, update_id) is ClaimResult.START:
        attempts += 1
        with database.transaction() as session:
            updates.requeue(session, session.get_one(BotUpdate, update_id))
    assert attempts == 3
    assert read(database, update_id).state is UpdateState.RUNNING


@pytest.mark.parametrize("state", set(RolloutState) - Rollout.OPEN)
def test_an_interrupted_update_is_not_requeued_in_an_ended_rollout(
    database: Database, bot_id: str, state: RolloutState
) -> None:
    update_id = add_update(database, bot_id)
    claim(database, update_id)
    with database.transaction() as session:
        session.get_one(BotUpdate, update_id).rollout.state = state
    with database.transaction() as session:
        assert not updates.requeue(session, session.get_one(BotUpdate, update_id))
    assert read(database, update_id).state is UpdateState.RUNNING


def test_every_step_has_a_start_and_an_end(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id)
    claim(database, update_id)
    with database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        updates.enter_step(session, update, Step.PREFLIGHT, NOW)
        updates.enter_step(session, update, Step.PULL, NOW)
        updates.add_to_journal(session, update, size=1)
        updates.add_to_journal(session, update, helper="x")
    update = read(database, update_id)
    assert update.step is Step.PULL
    assert {step: len(times) for step, times in update.timings.items()} == {
        Step.CLAIM: 2,
        Step.PREFLIGHT: 2,
        Step.PULL: 1,
    }
    assert update.journal == {"size": 1, "helper": "x"}
