"""Starts of bots that should run and were found stopped, with growing delays. Used by probes and bot jobs.

A start is due like a restart that a user has requested, and the same job does it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, BotState, BotUpdate, DesiredState, Event, EventTag
from portal.rules.stop_causes import StopCause
from portal.services import events
from portal.services.bots import state_changes

SHORTEST_DELAY = timedelta(seconds=15)
LONGEST_DELAY = timedelta(minutes=15)


def request_if_engine_failed(session: Session, bot: Bot, cause: StopCause, now: datetime) -> bool:
    """Let a worker start a bot that should run, unless its container exited or a person stopped it.

    Args:
        session: the transaction that records the stop.
        bot: the bot, whose container has just been found stopped.
        cause: why the container stopped.
        now: the moment.

    Returns:
        Whether the bot is being started.
    """
    should_run = bot.desired_state is DesiredState.RUNNING and bot.phase is BotPhase.ACTIVE
    if not should_run or bot.needs_attention is not None or not _is_engine_failure(session, bot, cause):
        return False
    if bot.restart_requested_at is None:
        bot.restart_requested_at = now
        note = {"note": "it should run, but was found stopped"}
        events.record(session, EventTag.BOT_START_REQUESTED, org_id=bot.org_id, bot_id=bot.id, data=note)
    return True


def record_failed_start(session: Session, bot: Bot, error: str, now: datetime) -> None:
    """Record that the engine refused to start a bot, and when the next attempt is due.

    The delay is as long as the bot has been down, from 15 seconds to 15 minutes. Each outage gets one event.

    Args:
        session: a fenced transaction.
        bot: the bot.
        error: the reason, for operators.
        now: the moment.
    """
    if bot.state is not BotState.STOPPED or bot.state_since is None:
        bot.state_since = now
    since = bot.state_since
    state_changes.set_state(session, bot, BotState.STOPPED, error, now)
    bot.restart_requested_at = now + min(max(now - since, SHORTEST_DELAY), LONGEST_DELAY)
    if not _has_failed_since(session, bot, since):
        events.record(
            session, EventTag.BOT_START_FAILED, org_id=bot.org_id, bot_id=bot.id, data={"error": bot.state_detail}
        )


def _is_engine_failure(session: Session, bot: Bot, cause: StopCause) -> bool:
    if cause is not StopCause.ITSELF:
        return cause is StopCause.ENGINE
    # Until an update is cleaned up, the container has a temporary restart policy.
    unfinished = sa.select(BotUpdate.id).where(BotUpdate.bot_id == bot.id, BotUpdate.is_unfinished())
    return session.scalar(unfinished.limit(1)) is not None


def _has_failed_since(session: Session, bot: Bot, moment: datetime) -> bool:
    failed = sa.select(Event.id).where(
        Event.bot_id == bot.id, Event.tag == EventTag.BOT_START_FAILED, Event.at >= moment
    )
    return session.scalar(failed.limit(1)) is not None
