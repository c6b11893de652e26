"""The journal of an update: claim, steps, requeue, skip, cleanup. Used by the worker that updates a bot.

Each function belongs to one short transaction of the worker that holds the lease of the bot.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import (
    Bot,
    BotUpdate,
    Rollout,
    SkipReason,
    Step,
    UpdateState,
    move,
    update_and_load,
)
from portal.rules import windows
from portal.services import changes
from portal.services.bots import leases
from portal.services.rollouts import eligibility, transitions
from portal.services.rollouts.eligibility import Candidate

_MAX_ATTEMPTS = 3
"""An interrupted update is not requeued automatically after this many attempts."""


class ClaimResult(StrEnum):
    """What the worker that holds the bot has to do."""

    NOTHING = "nothing"
    START = "start"
    RECOVER = "recover"
    CLEAN = "clean"


def claim_update(session: Session, update_id: str, now: datetime) -> ClaimResult:
    """Claim an update for the worker that holds the bot, and return what the worker has to do.

    - A pending update starts when it is due. It waits while the bot is being started after a crash of the engine, and
      is skipped when the bot is no longer eligible.
    - A running update was left by a worker that died, and has to be recovered.
    - An ended update has to be cleaned up, unless its bot needs attention.
    """
    update = session.get(BotUpdate, update_id, options=[joinedload(BotUpdate.rollout).joinedload(Rollout.release)])
    if update is None:
        return ClaimResult.NOTHING
    if update.state is UpdateState.RUNNING:
        return ClaimResult.RECOVER
    if update.state in BotUpdate.LEAVES_TRACES:
        # An operator who repairs the bot may need what an earlier update left.
        return ClaimResult.NOTHING if update.cleaned_at or update.bot.needs_attention else ClaimResult.CLEAN
    (candidate,) = eligibility.load_candidates(session, Bot.id == update.bot_id)
    if not _is_due(session, update, candidate, now):
        return ClaimResult.NOTHING
    if reason := _skip_reason(update, candidate):
        move(session, update, UpdateState.PENDING, UpdateState.SKIPPED, **BotUpdate.skip_values(reason, now))
        return ClaimResult.NOTHING
    return ClaimResult.START if _begin(session, update, now) else ClaimResult.NOTHING


def load(session: Session, update_id: str) -> BotUpdate:
    """Load an update with all columns of its bot, node, rollout and release, also if they are loaded already."""
    query = sa.select(BotUpdate).where(BotUpdate.id == update_id)
    related = (
        joinedload(BotUpdate.bot).joinedload(Bot.node),
        joinedload(BotUpdate.rollout).joinedload(Rollout.release),
    )
    return session.scalars(query.options(*related), execution_options={"populate_existing": True}).one()


def list_unfinished(session: Session, update: BotUpdate) -> list[str]:
    """List ids of other updates of the same bot that a worker did not finish or clean up, oldest first."""
    return list(
        session.scalars(
            sa.select(BotUpdate.id)
            .where(BotUpdate.bot_id == update.bot_id, BotUpdate.id != update.id, BotUpdate.is_unfinished())
            .order_by(BotUpdate.created_at)
        )
    )


def list_abandoned(session: Session, now: datetime) -> list[tuple[str, str]]:
    """List update id and node id of unfinished updates whose bot has no lease, oldest first.

    Only these columns are read, because an unreadable `saved_container` must not block the other updates.

    Args:
        session: any session.
        now: the moment by the clock of the database, which leases use.
    """
    query = (
        sa.select(BotUpdate.id, Bot.node_id)
        .join(BotUpdate.bot)
        .where(BotUpdate.is_unfinished(), leases.is_free(now))
        .order_by(BotUpdate.created_at)
    )
    return [(update_id, node_id) for update_id, node_id in session.execute(query)]


def record(
    session: Session, update: BotUpdate, condition: sa.ColumnElement[bool] | None = None, **values: Any
) -> BotUpdate | None:
    """Set columns of an update in one statement.

    Args:
        session: a writing transaction.
        update: the update, loaded in any session by the worker that holds the bot, the only one that changes it.
        condition: see `leases.is_held`; None in a transaction that has locked the bot.
        values: values by column.

    Returns:
        The current row; None if the condition does not hold.
    """
    conditions = [] if condition is None else [condition]
    return update_and_load(session, BotUpdate, BotUpdate.id == update.id, *conditions, **values)


def enter_step(
    session: Session,
    update: BotUpdate,
    step: Step,
    now: datetime,
    condition: sa.ColumnElement[bool] | None = None,
) -> BotUpdate | None:
    """Record that a step starts, before its first effect, and that the step before has ended. See `record`."""
    values: dict[str, Any] = {"step": step, "timings": end_step_timing(update, now) | {step: [now.isoformat()]}}
    if step is Step.DRAIN:
        changes.note_change(session, update.bot_id)
    if step is Step.STOP:
        values["stopped_at"] = now
    return record(session, update, condition, **values)


def end_step_timing(update: BotUpdate, now: datetime) -> dict[str, Any]:
    """Return the timings of an update whose current step ends now."""
    return {step: [*times, now.isoformat()][:2] for step, times in update.timings.items()}


def add_to_journal(
    session: Session, update: BotUpdate, condition: sa.ColumnElement[bool] | None = None, **facts: Any
) -> BotUpdate | None:
    """Add small facts to the journal that a takeover needs. See `record`."""
    return record(session, update, condition, journal=update.journal | facts)


def requeue(session: Session, update: BotUpdate) -> bool:
    """Make an update pending again that was interrupted before the bot was stopped.

    Returns:
        False when the update was interrupted too often, or when its rollout has ended and would never start it.
    """
    # The lock keeps the rollout from ending between this check and the commit, which would leave a pending update.
    rollout = session.get_one(Rollout, update.rollout_id, with_for_update=True, populate_existing=True)
    if update.attempt >= _MAX_ATTEMPTS or rollout.state not in Rollout.OPEN:
        return False
    return move(
        session,
        update,
        UpdateState.RUNNING,
        UpdateState.PENDING,
        step=None,
        new_container_id=None,
        saved_container=None,
        journal=_keep_original(update.journal),
        timings={},
    )


def skip_update(session: Session, update: BotUpdate, reason: SkipReason, now: datetime) -> None:
    """Skip a running update that has nothing to do and has changed nothing."""
    move(
        session,
        update,
        UpdateState.RUNNING,
        UpdateState.SKIPPED,
        timings=end_step_timing(update, now),
        cleaned_at=now,
        **BotUpdate.skip_values(reason, now),
    )


def _is_due(session: Session, update: BotUpdate, candidate: Candidate, now: datetime) -> bool:
    # The job may run late or twice, and the window may have closed since it was enqueued.
    in_window = update.rollout.ignore_windows or windows.is_open(candidate.hour_utc, now)
    has_started = not update.bot.is_being_started
    return in_window and has_started and transitions.may_start_update(session, update, now)


def _skip_reason(update: BotUpdate, candidate: Candidate) -> SkipReason | None:
    rollout = update.rollout
    if rollout.release.quarantined_at is not None:
        return SkipReason.QUARANTINED
    return eligibility.exclusion_reason(candidate, rollout.release, rollout.audience)


def _begin(session: Session, update: BotUpdate, now: datetime) -> bool:
    return move(
        session,
        update,
        UpdateState.PENDING,
        UpdateState.RUNNING,
        step=Step.CLAIM,
        verdict=None,
        attempt=update.attempt + 1,
        previous_digest=update.bot.current_digest,
        old_container_id=update.bot.container_id,
        new_container_id=None,
        saved_container=None,
        journal=_keep_original(update.journal),
        error=None,
        transient=False,
        log_tail=None,
        timings={Step.CLAIM: [now.isoformat()]},
        started_at=now,
        ended_at=None,
        stopped_at=None,
        answering_at=None,
        cleaned_at=None,
    )


def _keep_original(journal: dict[str, Any]) -> dict[str, Any]:
    """Return a new journal with name and restart policy of the bot's container before the first attempt."""
    return {key: value for key, value in journal.items() if key == "original"}
