"""How the update of a bot ends: the verdict on the new container, and what row, bot and event log say afterwards.

Each verb is one fenced transaction of the worker that holds the bot.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    EventTag,
    Release,
    Rollout,
    UpdateState,
    Verdict,
    move,
    utcnow,
)
from portal.services import events
from portal.services.rollouts import notifications
from portal.services.rollouts.updates import end_step_timing


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an update ended, for the row, the bot and the event."""

    state: UpdateState
    error: str | None = None
    transient: bool = False


def mark_failed(session: Session, update: BotUpdate, reason: str, log_tail: str | None) -> None:
    """Decide that the new container failed. From here on the update can only go back.

    The data will be of another epoch than what anybody wrote down meanwhile.
    """
    update.verdict = Verdict.FAILED
    update.error = reason
    update.log_tail = log_tail
    update.bot.epoch += 1
    session.flush()


def commit_healthy(
    session: Session, update: BotUpdate, release: Release, container_id: str, address: str | None
) -> None:
    """Decide that the new container is healthy: it is the bot from now on."""
    bot = update.bot
    previous = bot.current_digest
    bot.container_id = container_id
    bot.current_digest = release.digest
    _seen_running(bot, address)
    update.verdict = Verdict.HEALTHY
    update.answering_at = utcnow()
    _end(session, update, Outcome(state=UpdateState.UPDATED))
    events.record(
        session,
        EventTag.BOT_UPDATED,
        actor=update.rollout.started_by,
        org_id=bot.org_id,
        bot_id=bot.id,
        rollout_id=update.rollout_id,
        data={"update": update.id, "from": previous, "to": release.digest, "version": release.version},
    )


def mark_rolled_back(
    session: Session, update: BotUpdate, ending: Outcome, container_id: str, address: str | None, *, answers: bool
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
    end_failed(session, update, ending)


def end_failed(session: Session, update: BotUpdate, ending: Outcome) -> None:
    """End an update that did not bring the bot to the release, and tell the log why."""
    _end(session, update, ending)
    rollout = session.get_one(Rollout, update.rollout_id)
    events.record(
        session,
        EventTag.BOT_UPDATE_FAILED,
        actor=rollout.started_by,
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


def mark_needs_attention(session: Session, update: BotUpdate, error: str, instructions: str) -> None:
    """End an update that could not be taken back. The bot is left alone until an operator has looked.

    Args:
        session: a fenced transaction.
        update: the update.
        error: what went wrong, for everybody who may see the bot.
        instructions: where the archives are, and the commands that help: for operators only.
    """
    # It may have been made anew, and is what an operator will bring to life again.
    update.bot.container_id = update.old_container_id
    update.bot.needs_attention = instructions
    end_failed(session, update, Outcome(state=UpdateState.NEEDS_ATTENTION, error=error))
    notifications.notify_rollback_failed(session, update)


def _seen_running(bot: Bot, address: str | None) -> None:
    moment = utcnow()
    if bot.state is not BotState.RUNNING:
        bot.state_since = moment
    bot.state, bot.state_detail, bot.checked_at, bot.address = BotState.RUNNING, None, moment, address


def _end(session: Session, update: BotUpdate, ending: Outcome) -> None:
    moment = utcnow()
    end_step_timing(update, moment.isoformat())
    update.error = ending.error or update.error
    update.transient = ending.transient
    update.ended_at = moment
    move(session, update, UpdateState.RUNNING, ending.state)
    notifications.notify_outcome(session, update.rollout, update.bot.org_id)
