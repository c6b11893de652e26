"""Who may work on an update, and what it is worth looking at again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from portal.database import Database, database_now
from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    DesiredState,
    FleetSettings,
    Node,
    Org,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    Step,
    StrategyName,
    Trigger,
    UpdateState,
    User,
    utcnow,
)
from portal.services.bots import leases
from portal.services.rollouts import updates
from portal.services.rollouts.updates import ClaimResult

OLD, NEW, PLATFORM = (f"sha256:{character * 64}" for character in "abc")
LATER = utcnow() + timedelta(days=1)


@pytest.fixture
def bot_id(database: Database) -> str:
    """A bot on an old release."""
    with database.transaction() as session:
        owner = User(email="alice@example.com", email_normalized="alice@example.com", name="Alice")
        node = Node(name="one", docker_url="unix:///nowhere", snapshot_dir="/nowhere")
        session.add_all([owner, node])
        session.flush()
        org = Org(slug="acme", name="Acme", owner_id=owner.id)
        session.add(org)
        session.flush()
        bot = Bot(
            org_id=org.id,
            node_id=node.id,
            name="bot",
            subdomain="bot",
            image="ghcr.io/acme/bot:stable",
            current_digest=OLD,
        )
        session.add(bot)
        session.flush()
        return bot.id


def add_update(database: Database, bot_id: str, digest: str = NEW, **values: Any) -> str:
    """An update of the bot in a running rollout of a release of its own, due unless `values` say otherwise."""
    with database.transaction() as session:
        release = Release(repository="ghcr.io/acme/bot", image="ghcr.io/acme/bot:stable", digest=digest)
        session.add(release)
        session.flush()
        rollout = Rollout(
            release_id=release.id,
            strategy=StrategyName.ROLLING_WAVE,
            state=RolloutState.RUNNING,
            trigger=Trigger.OPERATOR,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        session.add(rollout)
        session.flush()
        update = BotUpdate(rollout_id=rollout.id, bot_id=bot_id, **{"wave": 1, **values})
        session.add(update)
        session.flush()
        return update.id


def claim(database: Database, update_id: str) -> ClaimResult:
    """What there is to do."""
    with database.transaction() as session:
        return updates.claim_update(session, update_id)


def read(database: Database, update_id: str) -> BotUpdate:
    """The row as it is now."""
    with database.reading() as session:
        return session.get_one(BotUpdate, update_id)


def test_a_due_update_starts_once(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id)
    assert claim(database, update_id) is ClaimResult.START
    update = read(database, update_id)
    assert (update.state, update.step, update.attempt) == (UpdateState.RUNNING, Step.CLAIM, 1)
    assert update.previous_digest == OLD
    # Whoever comes next, after the lease ran out, has to find out how far it got.
    assert claim(database, update_id) is ClaimResult.RECOVER


@pytest.mark.parametrize(
    "values",
    [
        {"wave": None},
        {"not_before": LATER},
        {"state": UpdateState.FAILED, "cleaned_at": LATER},
        {"state": UpdateState.SKIPPED},
    ],
    ids=["wave not cut", "waits", "failed", "skipped"],
)
def test_an_update_that_is_not_due_stays_as_it_is(database: Database, bot_id: str, values: dict[str, Any]) -> None:
    update_id = add_update(database, bot_id, **values)
    assert claim(database, update_id) is ClaimResult.NOTHING
    assert read(database, update_id).state is values.get("state", UpdateState.PENDING)


@pytest.mark.parametrize("state", set(RolloutState) - {RolloutState.RUNNING})
def test_no_update_starts_unless_its_rollout_runs(database: Database, bot_id: str, state: RolloutState) -> None:
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
    ids=["quarantined", "there", "there by platform", "stopped", "needs a person"],
)
def test_an_update_without_anything_to_do_is_skipped(
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


def test_a_bot_left_out_after_a_failed_attempt_shows_no_error(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id, error="the registry is away", transient=True)
    with database.transaction() as session:
        session.get_one(BotUpdate, update_id).bot.desired_state = DesiredState.STOPPED
    claim(database, update_id)
    update = read(database, update_id)
    assert (update.state, update.error, update.transient) == (UpdateState.SKIPPED, None, False)


def test_a_message_that_comes_after_the_hour_starts_nothing(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id)
    with database.transaction() as session:
        session.get_one(BotUpdate, update_id).rollout.ignore_windows = False
        # Twelve hours from now, whenever this runs.
        session.get_one(FleetSettings, 1).tenant_hour_utc = (utcnow().hour + 12) % 24
    assert claim(database, update_id) is ClaimResult.NOTHING
    assert read(database, update_id).state is UpdateState.PENDING


@pytest.mark.parametrize("state", [UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED])
def test_an_ended_update_is_cleaned_up_once(database: Database, bot_id: str, state: UpdateState) -> None:
    update_id = add_update(database, bot_id, state=state)
    assert claim(database, update_id) is ClaimResult.CLEAN
    with database.transaction() as session:
        updates.mark_cleaned(session, session.get_one(BotUpdate, update_id))
    assert claim(database, update_id) is ClaimResult.NOTHING


def test_unfinished_work_is_found_while_nobody_holds_the_bot(database: Database, bot_id: str) -> None:
    running = add_update(database, bot_id, state=UpdateState.RUNNING)
    uncleaned = add_update(database, bot_id, digest=OLD, state=UpdateState.ROLLED_BACK)
    add_update(database, bot_id, digest=PLATFORM, state=UpdateState.NEEDS_ATTENTION)

    def abandoned() -> set[str]:
        with database.reading() as session:
            return {update_id for update_id, _ in updates.list_abandoned(session, database_now(session))}

    assert abandoned() == {running, uncleaned}
    with database.transaction() as session:
        leases.acquire(session, bot_id, "a worker")
    assert abandoned() == set()


def test_what_another_update_left_comes_first(database: Database, bot_id: str) -> None:
    left = add_update(database, bot_id, state=UpdateState.RUNNING)
    add_update(database, bot_id, digest=OLD, state=UpdateState.UPDATED, cleaned_at=LATER)
    waiting = add_update(database, bot_id, digest=PLATFORM)
    with database.reading() as session:
        assert updates.list_unfinished(session, session.get_one(BotUpdate, waiting)) == [left]


def test_an_update_that_no_worker_survives_is_not_tried_for_ever(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id)
    tries = 0
    while claim(database, update_id) is ClaimResult.START:
        tries += 1
        with database.transaction() as session:
            updates.requeue(session, session.get_one(BotUpdate, update_id))
    assert tries == 3
    assert read(database, update_id).state is UpdateState.RUNNING


@pytest.mark.parametrize("state", set(RolloutState) - Rollout.OPEN)
def test_an_update_cut_off_is_not_left_pending_in_a_rollout_that_has_ended(
    database: Database, bot_id: str, state: RolloutState
) -> None:
    update_id = add_update(database, bot_id)
    claim(database, update_id)
    with database.transaction() as session:
        session.get_one(BotUpdate, update_id).rollout.state = state
    with database.transaction() as session:
        assert not updates.requeue(session, session.get_one(BotUpdate, update_id))
    assert read(database, update_id).state is UpdateState.RUNNING


def test_every_step_has_a_beginning_and_an_end(database: Database, bot_id: str) -> None:
    update_id = add_update(database, bot_id)
    claim(database, update_id)
    with database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        updates.enter_step(session, update, Step.PREFLIGHT)
        updates.enter_step(session, update, Step.PULL)
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
