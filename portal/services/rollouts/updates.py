"""The journal of a bot's update: who may go on with it, the step it is in, and how it ended.

Everything here is one short transaction of the worker that holds the bot's lease.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotUpdate,
    Rollout,
    SkipReason,
    Step,
    UpdateState,
    move,
    utcnow,
)
from portal.rules import windows
from portal.services.rollouts import eligibility, transitions
from portal.services.rollouts.eligibility import Candidate

_ATTEMPTS_CUT_SHORT = 3
"""After so many attempts that no worker survived, the update is not put back into the queue by itself."""


class ClaimResult(StrEnum):
    """What there is to do for the one who holds the bot."""

    NOTHING = "nothing"
    START = "start"
    RECOVER = "recover"
    CLEAN = "clean"


def claim_update(session: Session, update_id: str) -> ClaimResult:
    """Look at an update whose bot we hold, and make it ours.

    A pending update that is due starts, unless its bot takes no part any more: then it is skipped. Outside the hour
    its organization chose it waits, for nobody may have looked at the rollout since. A running one was left by a
    worker that died. An ended one that is not cleaned up yet has its left-overs removed, unless its bot needs a
    person.
    """
    update = session.get(BotUpdate, update_id)
    if update is None:
        return ClaimResult.NOTHING
    if update.state is UpdateState.RUNNING:
        return ClaimResult.RECOVER
    if update.state in BotUpdate.LEAVES_TRACES:
        # While a person looks at the bot nothing is touched: what a later update needs may be the same.
        return ClaimResult.NOTHING if update.cleaned_at or update.bot.needs_attention else ClaimResult.CLEAN
    (candidate,) = eligibility.load_candidates(session, Bot.id == update.bot_id)
    if not _is_its_turn(session, update, candidate):
        return ClaimResult.NOTHING
    if reason := _nothing_to_do(update, candidate):
        move(session, update, UpdateState.PENDING, UpdateState.SKIPPED, **BotUpdate.left_out(reason, utcnow()))
        return ClaimResult.NOTHING
    return ClaimResult.START if _begin(session, update) else ClaimResult.NOTHING


def _is_its_turn(session: Session, update: BotUpdate, candidate: Candidate) -> bool:
    # The message may come late or twice, and the hour may have ended since it was sent.
    in_window = update.rollout.ignore_windows or windows.is_open(candidate.hour_utc, utcnow())
    return in_window and transitions.may_start_update(session, update)


def _nothing_to_do(update: BotUpdate, candidate: Candidate) -> SkipReason | None:
    rollout = update.rollout
    if rollout.release.quarantined_at is not None:
        return SkipReason.QUARANTINED
    return eligibility.exclusion_reason(candidate, rollout.release, rollout.audience)


def _begin(session: Session, update: BotUpdate) -> bool:
    moment = utcnow()
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
        journal={},
        error=None,
        transient=False,
        log_tail=None,
        timings={Step.CLAIM: [moment.isoformat()]},
        started_at=moment,
        ended_at=None,
        stopped_at=None,
        answering_at=None,
        cleaned_at=None,
    )


def list_unfinished(session: Session, update: BotUpdate) -> list[str]:
    """Ids of other updates of the same bot that a worker left in the middle, or did not clean up after."""
    return list(
        session.scalars(
            sa.select(BotUpdate.id)
            .where(BotUpdate.bot_id == update.bot_id, BotUpdate.id != update.id, BotUpdate.is_unfinished())
            .order_by(BotUpdate.created_at)
        )
    )


def list_abandoned(session: Session, moment: datetime) -> list[tuple[str, str]]:
    """Id and node of every update that a worker should look at again because nobody holds its bot.

    They are running although the lease ran out, or ended without having been cleaned up. Only that is read: what they
    saved of containers is secret, and none of it may stand in the way of the others.

    Args:
        session: any.
        moment: now by the database's clock.
    """
    query = (
        sa.select(BotUpdate.id, Bot.node_id)
        .join(BotUpdate.bot)
        .where(BotUpdate.is_unfinished(), sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= moment))
        .order_by(BotUpdate.created_at)
    )
    return [(update_id, node_id) for update_id, node_id in session.execute(query)]


def enter_step(session: Session, update: BotUpdate, step: Step) -> None:
    """Write down that the step begins, before its first effect; the step before it has ended."""
    moment = utcnow().isoformat()
    end_step_timing(update, moment)
    update.timings = update.timings | {step: [moment]}
    update.step = step
    if step is Step.STOP:
        update.stopped_at = utcnow()
    session.flush()


def add_to_journal(session: Session, update: BotUpdate, **facts: Any) -> None:
    """Add small facts to the journal which a takeover will need."""
    update.journal = update.journal | facts
    session.flush()


def requeue(session: Session, update: BotUpdate) -> bool:
    """Make an update that was cut off before anything was stopped due again.

    Returns:
        False when that happened so often that the update had better fail, or when its rollout has ended meanwhile:
        nobody would ever come back to it.
    """
    # Locked, or the rollout could end right after this look and leave a pending update behind.
    rollout = session.get_one(Rollout, update.rollout_id, with_for_update=True, populate_existing=True)
    if update.attempt >= _ATTEMPTS_CUT_SHORT or rollout.state not in Rollout.OPEN:
        return False
    return move(
        session,
        update,
        UpdateState.RUNNING,
        UpdateState.PENDING,
        step=None,
        new_container_id=None,
        saved_container=None,
        journal={},
        timings={},
    )


def skip_update(session: Session, update: BotUpdate, reason: SkipReason) -> None:
    """End an update that turned out to have nothing to do; nothing was changed."""
    moment = utcnow()
    end_step_timing(update, moment.isoformat())
    move(
        session,
        update,
        UpdateState.RUNNING,
        UpdateState.SKIPPED,
        cleaned_at=moment,
        **BotUpdate.left_out(reason, moment),
    )


def mark_cleaned(session: Session, update: BotUpdate) -> None:
    """Nothing of this update is left behind on the engine."""
    update.cleaned_at = utcnow()
    session.flush()


def end_step_timing(update: BotUpdate, moment: str) -> None:
    """The step the update was in has ended at that moment (ISO 8601)."""
    update.timings = {step: [*times, moment][:2] for step, times in update.timings.items()}
