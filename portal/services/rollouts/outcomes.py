"""Outcomes of an update: healthy, failed, rolled back, needs attention. Used by the worker that updates a bot.

Each function belongs to one fenced transaction of the worker that holds the lease of the bot. It records the outcome
in the update, the bot and the event log, and queues the mails.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    EventTag,
    Rollout,
    Step,
    UpdateState,
    Verdict,
    move,
)
from portal.rules.hidden_secrets import hide_secrets, list_secret_values, parse_environment
from portal.services import events, fleet_settings
from portal.services.bots import bot_template, state_changes
from portal.services.rollouts import notifications
from portal.services.rollouts.updates import end_step_timing
from portal.services.syncs import reconciliation

ROLLBACK_FAILED_TOO = ". The rollback failed too"
"""End of the error of an update whose rollback failed. It is true until the rollback is continued."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Final state of an update, with the error where it failed."""

    state: UpdateState
    error: str | None = None
    transient: bool = False


def record_reason(session: Session, update: BotUpdate, reason: str, *, transient: bool) -> None:
    """Record why an update failed before it has ended.

    Args:
        session: a fenced transaction.
        update: the update.
        reason: why the update failed.
        transient: the release cannot be the cause, because the engine was in trouble.
    """
    update.error = reason
    update.transient = transient
    session.flush()


def mark_failed(
    session: Session, update: BotUpdate, reason: str, log_tail: str | None, *, transient: bool = False
) -> None:
    """Record the verdict that the new container failed. From here on the update can only roll back.

    The data epoch of the bot grows, because the rollback restores the data from before the update. The log, which
    members can read, is kept without the secrets that Flotilla knows.

    Args:
        session: a fenced transaction.
        update: the update.
        reason: why the update failed.
        log_tail: the last log lines of the new container.
        transient: the release cannot be the cause, because the engine was in trouble.
    """
    update.verdict = Verdict.FAILED
    record_reason(session, update, reason, transient=transient)
    update.log_tail = log_tail and hide_secrets(log_tail, _list_secrets(session, update))
    update.bot.epoch += 1
    session.flush()


def _list_secrets(session: Session, update: BotUpdate) -> list[str | None]:
    container = (update.saved_container or {}).get("container") or {}
    patterns = fleet_settings.get_settings(session).secret_variables
    variables = list_secret_values(parse_environment(container), patterns)
    secrets = update.bot.provision_secret
    if not secrets:
        # The verdict must not depend on the template, whose API key may be unreadable.
        return [*variables]
    return [*variables, *secrets.values(), bot_template.get_template(session).api_key]


def commit_healthy(
    session: Session, update: BotUpdate, container_id: str, address: str | None, now: datetime
) -> None:
    """Enter the step *commit* with the verdict healthy, and make the new container the container of the bot."""
    bot, rollout = update.bot, update.rollout
    release = rollout.release
    previous = bot.current_digest
    bot.container_id = container_id
    bot.current_digest = release.digest
    _mark_running(session, bot, address, now)
    # The bot has just started, and its new release may list members.
    reconciliation.request(session, bot.id)
    _end(
        session,
        update,
        Outcome(state=UpdateState.UPDATED),
        now,
        step=Step.COMMIT,
        timings=end_step_timing(update, now) | {Step.COMMIT: [now.isoformat()] * 2},
        verdict=Verdict.HEALTHY,
        answering_at=now,
    )
    events.record(
        session,
        EventTag.BOT_UPDATED,
        actor=rollout.started_by,
        org_id=bot.org_id,
        bot_id=bot.id,
        rollout_id=rollout.id,
        data={"update": update.id, "from": previous, "to": release.digest, "version": release.version},
    )


def mark_rolled_back(
    session: Session,
    update: BotUpdate,
    outcome: Outcome,
    container_id: str,
    address: str | None,
    *,
    answers: bool,
    now: datetime,
) -> None:
    """Record that the old container runs again, after a rollback or an update that stopped before the start.

    A bot whose failed rollback was continued needs no attention any more.

    Args:
        session: a fenced transaction.
        update: the update.
        outcome: final state and error.
        container_id: the old container, or the container that replaces it.
        address: current address of the container.
        answers: the container was proven healthy.
        now: the moment.
    """
    bot = update.bot
    bot.container_id = container_id
    was_recovered, bot.needs_attention = bot.needs_attention is not None, None
    if answers:
        _mark_running(session, bot, address, now)
        reconciliation.request(session, bot.id)
        update.answering_at = now
    elif address:
        bot.address = address
    end_failed(session, update, outcome, now)
    if was_recovered:
        events.record(session, EventTag.BOT_RECOVERED, org_id=bot.org_id, bot_id=bot.id, rollout_id=update.rollout_id)


def end_failed(session: Session, update: BotUpdate, outcome: Outcome, now: datetime) -> None:
    """End an update that did not bring the bot to the release, and record the event."""
    _end(session, update, outcome, now)
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
            "outcome": outcome.state,
            "from": update.previous_digest,
            "to": rollout.release.digest,
            "version": rollout.release.version,
            "error": update.error,
            "transient": update.transient,
        },
    )


def mark_needs_attention(
    session: Session, update: BotUpdate, error: str, instructions: str, now: datetime, *, transient: bool = False
) -> None:
    """End an update whose rollback failed. The bot is not updated until an operator has cleared it.

    Args:
        session: a fenced transaction.
        update: the update.
        error: what went wrong, for operators.
        instructions: paths of the archives and repair commands, for operators.
        now: the moment.
        transient: the release cannot be the cause of the failure.
    """
    # The rollback may have replaced the old container. The operator repairs the replacement.
    update.bot.container_id = update.old_container_id
    update.bot.needs_attention = instructions
    end_failed(session, update, Outcome(state=UpdateState.NEEDS_ATTENTION, error=error, transient=transient), now)
    notifications.notify_rollback_failed(session, update)


def _mark_running(session: Session, bot: Bot, address: str | None, now: datetime) -> None:
    state_changes.set_state(session, bot, BotState.RUNNING, None, now)
    bot.checked_at, bot.address = now, address


def _end(session: Session, update: BotUpdate, outcome: Outcome, now: datetime, **values: Any) -> None:
    values = {"timings": end_step_timing(update, now), "error": outcome.error or update.error, **values}
    move(
        session,
        update,
        UpdateState.RUNNING,
        outcome.state,
        transient=outcome.transient,
        ended_at=now,
        **values,
    )
    notifications.notify_outcome(session, update.rollout, update.bot.org_id)
