"""The journal of a bot's update: who may go on with it, the step it is in, and how it ended.

Everything here is one short transaction of the worker that holds the bot's lease.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    DesiredState,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    Snapshot,
    SnapshotState,
    Step,
    UpdateState,
    Verdict,
    move,
    utcnow,
)
from portal.services import events

_ATTEMPTS_CUT_SHORT = 3
"""After so many attempts that no worker survived, the update is not put back into the queue by itself."""


class Claim(StrEnum):
    """What there is to do for the one who holds the bot."""

    NOTHING = "nothing"
    START = "start"
    RECOVER = "recover"
    CLEAN = "clean"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an update ended, for the row, the bot and the event."""

    state: UpdateState
    error: str | None = None
    transient: bool = False
    cleaned: bool = False


def claim(session: Session, update_id: str) -> Claim:
    """Look at an update whose bot we hold, and make it ours.

    A pending update of a running rollout starts, unless nothing is to be done: then it is skipped. A running one was
    left by a worker that died. An ended one that is not cleaned up yet has its left-overs removed.
    """
    update = session.get(BotUpdate, update_id)
    if update is None:
        return Claim.NOTHING
    if update.state is UpdateState.RUNNING:
        return Claim.RECOVER
    if update.state in {UpdateState.UPDATED, UpdateState.ROLLED_BACK}:
        return Claim.NOTHING if update.cleaned_at else Claim.CLEAN
    if update.state is not UpdateState.PENDING or update.rollout.state is not RolloutState.RUNNING:
        return Claim.NOTHING
    if reason := _nothing_to_do(update):
        move(session, update, UpdateState.PENDING, UpdateState.SKIPPED, skip_reason=reason, ended_at=utcnow())
        return Claim.NOTHING
    return Claim.START if _begin(session, update) else Claim.NOTHING


def _nothing_to_do(update: BotUpdate) -> SkipReason | None:
    release = update.rollout.release
    if release.quarantined_at is not None:
        return SkipReason.QUARANTINED
    if update.bot.current_digest in release.digests:
        return SkipReason.ALREADY_THERE
    if update.bot.desired_state is DesiredState.STOPPED:
        return SkipReason.STOPPED
    return None


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


def left_uncleaned(session: Session, update_id: str) -> list[str]:
    """Ids of earlier, ended updates of the same bot whose left-overs nobody removed yet."""
    bot_id = sa.select(BotUpdate.bot_id).where(BotUpdate.id == update_id).scalar_subquery()
    return list(
        session.scalars(
            sa.select(BotUpdate.id).where(BotUpdate.bot_id == bot_id, BotUpdate.id != update_id, _uncleaned())
        )
    )


def abandoned(session: Session, moment: datetime) -> list[BotUpdate]:
    """Updates that a worker should look at again because nobody holds their bot.

    They are running although the lease ran out, or ended without having been cleaned up.

    Args:
        session: any.
        moment: now by the database's clock.
    """
    return list(
        session.scalars(
            sa.select(BotUpdate)
            .join(Bot)
            .where(
                sa.or_(BotUpdate.state == UpdateState.RUNNING, _uncleaned()),
                sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= moment),
            )
            .order_by(BotUpdate.created_at)
        )
    )


def _uncleaned() -> sa.ColumnElement[bool]:
    return sa.and_(
        BotUpdate.state.in_([UpdateState.UPDATED, UpdateState.ROLLED_BACK]), BotUpdate.cleaned_at.is_(None)
    )


def enter(session: Session, update: BotUpdate, step: Step) -> None:
    """Write down that the step begins, before its first effect; the step before it has ended."""
    moment = utcnow().isoformat()
    _close_timing(update, moment)
    update.timings = update.timings | {step: [moment]}
    update.step = step
    if step is Step.STOP:
        update.stopped_at = utcnow()
    session.flush()


def note(session: Session, update: BotUpdate, **facts: Any) -> None:
    """Add small facts to the journal which a takeover will need."""
    update.journal = update.journal | facts
    session.flush()


def give_back(session: Session, update: BotUpdate) -> bool:
    """Make an update that was cut off before anything was stopped due again.

    Returns:
        False when that happened so often that the update had better fail.
    """
    if update.attempt >= _ATTEMPTS_CUT_SHORT:
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


def skip(session: Session, update: BotUpdate, reason: SkipReason) -> None:
    """End an update that turned out to have nothing to do; nothing was changed."""
    moment = utcnow()
    _close_timing(update, moment.isoformat())
    move(
        session,
        update,
        UpdateState.RUNNING,
        UpdateState.SKIPPED,
        skip_reason=reason,
        ended_at=moment,
        cleaned_at=moment,
    )


def condemn(session: Session, update: BotUpdate, reason: str, log_tail: str | None) -> None:
    """Decide that the new container failed. From here on the update can only go back.

    The data will be of another epoch than what anybody wrote down meanwhile.
    """
    update.verdict = Verdict.FAILED
    update.error = reason
    update.log_tail = log_tail
    update.bot.epoch += 1
    session.flush()


def commit(session: Session, update: BotUpdate, release: Release, container_id: str, address: str | None) -> None:
    """Decide that the new container is healthy: it is the bot from now on."""
    bot = update.bot
    previous = bot.current_digest
    bot.container_id = container_id
    bot.current_digest = release.digest
    _seen_running(bot, address)
    update.verdict = Verdict.HEALTHY
    update.answering_at = utcnow()
    _end(session, update, Ending(state=UpdateState.UPDATED))
    events.record(
        session,
        "bot.updated",
        actor_id=update.rollout.started_by,
        org_id=bot.org_id,
        bot_id=bot.id,
        rollout_id=update.rollout_id,
        data={"update": update.id, "from": previous, "to": release.digest, "version": release.version},
    )


def went_back(
    session: Session, update: BotUpdate, ending: Ending, container_id: str, address: str | None, *, answers: bool
) -> None:
    """The old container serves again, after a rollback or because the update stopped before the start.

    Args:
        session: a fenced transaction.
        update: the update.
        ending: how it ended.
        container_id: the old container, or the one it was created anew as.
        address: where it answers now.
        answers: whether it was seen to be healthy.
    """
    update.bot.container_id = container_id
    if answers:
        _seen_running(update.bot, address)
        update.answering_at = utcnow()
    elif address:
        update.bot.address = address
    fail(session, update, ending)


def fail(session: Session, update: BotUpdate, ending: Ending) -> None:
    """End an update that did not bring the bot to the release, and tell the log why."""
    _end(session, update, ending)
    rollout = session.get_one(Rollout, update.rollout_id)
    events.record(
        session,
        "bot.update_failed",
        actor_id=rollout.started_by,
        org_id=update.bot.org_id,
        bot_id=update.bot_id,
        rollout_id=update.rollout_id,
        data={
            "update": update.id,
            "outcome": ending.state,
            "from": update.previous_digest,
            "to": rollout.release.digest,
            "version": rollout.release.version,
            "error": update.error,
            "transient": update.transient,
        },
    )


def call_for_help(session: Session, update: BotUpdate, error: str) -> None:
    """End an update that could not be taken back. The bot is left alone until an operator has looked.

    Args:
        session: a fenced transaction.
        update: the update.
        error: what went wrong, where the archives are, and the commands that help.
    """
    update.bot.needs_attention = error
    fail(session, update, Ending(state=UpdateState.NEEDS_ATTENTION, error=error))


def cleaned(session: Session, update: BotUpdate) -> None:
    """Nothing of this update is left behind on the engine."""
    update.cleaned_at = utcnow()
    session.flush()


def snapshots_of(session: Session, update_id: str) -> list[Snapshot]:
    """The update's archives, in the order they were taken."""
    return list(
        session.scalars(
            sa.select(Snapshot)
            .where(Snapshot.update_id == update_id, Snapshot.state != SnapshotState.DELETED)
            .order_by(Snapshot.created_at, Snapshot.archive)
        )
    )


def begin_snapshot(session: Session, update: BotUpdate, volume: str, archive: str) -> str:
    """Write down that an archive of the volume is about to be written, and return the id of its row.

    What an earlier attempt of the same update wrote about this volume is forgotten: that archive was deleted.
    """
    session.execute(sa.delete(Snapshot).where(Snapshot.update_id == update.id, Snapshot.volume == volume))
    snapshot = Snapshot(update_id=update.id, node_id=update.bot.node_id, volume=volume, archive=archive)
    session.add(snapshot)
    session.flush()
    return snapshot.id


def forget_archives(session: Session, update_id: str) -> None:
    """The update's archives were deleted from the node's disk."""
    for snapshot in snapshots_of(session, update_id):
        move(session, snapshot, snapshot.state, SnapshotState.DELETED)


def _seen_running(bot: Bot, address: str | None) -> None:
    moment = utcnow()
    if bot.state is not BotState.RUNNING:
        bot.state_since = moment
    bot.state, bot.state_detail, bot.checked_at, bot.address = BotState.RUNNING, None, moment, address


def _end(session: Session, update: BotUpdate, ending: Ending) -> None:
    moment = utcnow()
    _close_timing(update, moment.isoformat())
    update.error = ending.error or update.error
    update.transient = ending.transient
    update.ended_at = moment
    if ending.cleaned:
        update.cleaned_at = moment
    move(session, update, UpdateState.RUNNING, ending.state)


def _close_timing(update: BotUpdate, moment: str) -> None:
    update.timings = {step: [*times, moment][:2] for step, times in update.timings.items()}
