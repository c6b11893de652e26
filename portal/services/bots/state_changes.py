"""Changes of the observed states of bots: set a state, load the health history. Used by services and bot pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotState, BotStateChange, BotUpdate
from portal.rules import health_history
from portal.rules.health_history import Span, StateChange

KEEP_CHANGES = timedelta(days=30)

_PERIOD = timedelta(days=7)
_DAY = timedelta(days=1)
_MAX_CHANGES = 5000
"""A bot may become healthy and unhealthy at each probe. Then the history shows less than seven days."""
_MAX_INTERRUPTIONS = 20


@dataclass(frozen=True)
class HealthPeriod:
    """The health of a bot in a period that ends now.

    Attributes:
        label: the period in words.
        bars: periods of equal length with their worst states.
        percentage: share of the time in which the bot was healthy; None without data.
        interruptions: how often it was not healthy.
    """

    label: str
    bars: list[Span]
    percentage: float | None
    interruptions: int


@dataclass(frozen=True)
class HealthHistory:
    """The health of a bot in the last 24 hours and 7 days, and its latest interruptions, newest first."""

    periods: list[HealthPeriod]
    interruptions: list[Span]


def set_state(session: Session, bot: Bot, state: BotState, detail: str | None, now: datetime) -> bool:
    """Set the observed state of a bot, and record a change for the health history.

    Args:
        session: a writing transaction.
        bot: the bot.
        state: the state.
        detail: the reason, for operators.
        now: the moment.

    Returns:
        Whether the state has changed.
    """
    old = bot.state
    bot.state, bot.state_detail = state, detail
    if old is state:
        return False
    bot.state_since = now
    session.add(BotStateChange(bot_id=bot.id, at=now, old=old, new=state))
    return True


def load_history(session: Session, bot: Bot, now: datetime) -> HealthHistory:
    """Load the health history of a bot. The downtimes of updates are a state of the history."""
    begin = now - _PERIOD
    spans = health_history.build_spans(
        _load_changes(session, bot, begin), bot.state, begin=begin, known_since=bot.created_at, now=now
    )
    spans = health_history.overlay(spans, _load_downtimes(session, bot, begin, now))
    day = [Span(max(span.start, now - _DAY), span.end, span.state) for span in spans if span.end > now - _DAY]
    return HealthHistory(
        [_summarize("24 hours", day, 48), _summarize("7 days", spans, 84)],
        health_history.list_interruptions(spans)[:_MAX_INTERRUPTIONS],
    )


def _summarize(label: str, spans: Sequence[Span], bars: int) -> HealthPeriod:
    return HealthPeriod(
        label,
        health_history.build_bars(spans, bars),
        health_history.measure_health(spans),
        len(health_history.list_interruptions(spans)),
    )


def _load_changes(session: Session, bot: Bot, begin: datetime) -> list[StateChange]:
    query = (
        sa.select(BotStateChange.at, BotStateChange.old, BotStateChange.new)
        .where(BotStateChange.bot_id == bot.id, BotStateChange.at > begin)
        .order_by(BotStateChange.at.desc(), BotStateChange.id.desc())
        .limit(_MAX_CHANGES)
    )
    return [StateChange(at, old, new) for at, old, new in session.execute(query)][::-1]


def _load_downtimes(session: Session, bot: Bot, begin: datetime, now: datetime) -> list[Span]:
    """Load the times in which updates had stopped the bot."""
    query = sa.select(BotUpdate.stopped_at, BotUpdate.answering_at, BotUpdate.ended_at).where(
        BotUpdate.bot_id == bot.id, BotUpdate.stopped_at > begin
    )
    return [
        Span(stopped, answering or ended or now, health_history.UPDATING)
        for stopped, answering, ended in session.execute(query)
        if stopped is not None
    ]
