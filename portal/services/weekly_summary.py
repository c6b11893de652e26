"""The weekly summary by mail: who wants it, when it is due, and what it counts. Used by a job and its composer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotUpdate,
    Event,
    EventTag,
    Release,
    Rollout,
    RolloutState,
    UpdateState,
    User,
)
from portal.services.bots import overview
from portal.services.mail import outbox

WEEK = timedelta(days=7)
_HOUR_UTC = 7
_MAX_RELEASES = 10


@dataclass(frozen=True)
class WeeklySummary:
    """What happened in seven days, and what needs attention at their end.

    Attributes:
        since: the beginning.
        releases: versions that were detected, the newest first, at most ten.
        updated: number of successful updates.
        rolled_back: number of updates that were rolled back or failed before they changed the bot.
        stopped_rollouts: number of rollouts that were aborted.
        offline: number of times that a node went offline.
        bots: number of bots.
        needing_attention: names of bots that need an operator, at most 20.
        down: names of bots that should run but do not, at most 20.
    """

    since: datetime
    releases: list[str]
    updated: int
    rolled_back: int
    stopped_rollouts: int
    offline: int
    bots: int
    needing_attention: list[str]
    down: list[str]


def set_wanted(user: User, *, wanted: bool) -> None:
    """Subscribe an operator to the summary, or end the subscription."""
    user.weekly_summary = wanted


def queue_due(session: Session, now: datetime) -> None:
    """On Mondays from 07:00 UTC, queue the summary of the last seven days for each operator who wants it.

    Every operator gets one per week, however often this runs.
    """
    if now.weekday() != 0 or now.hour < _HOUR_UTC:
        return
    wanted = sa.select(User).where(User.is_platform_admin, User.weekly_summary, User.disabled_at.is_(None))
    for user in session.scalars(wanted):
        outbox.queue_mail(
            session,
            to=user.email,
            template="weekly_summary",
            dedupe_key=f"weekly_summary:{now:%G-%V}:{user.id}",
            context={"user_id": user.id},
        )


def load(session: Session, now: datetime) -> WeeklySummary:
    """Load the summary of the seven days before `now`."""
    since = now - WEEK
    ended = sa.select(BotUpdate.state, sa.func.count()).where(BotUpdate.ended_at > since).group_by(BotUpdate.state)
    updates = dict(session.execute(ended).all())
    releases = sa.select(Release).where(Release.first_seen_at > since).order_by(Release.first_seen_at.desc())
    state = overview.load_overview(session, now)
    return WeeklySummary(
        since=since,
        releases=[release.version for release in session.scalars(releases.limit(_MAX_RELEASES))],
        updated=updates.get(UpdateState.UPDATED, 0),
        rolled_back=updates.get(UpdateState.ROLLED_BACK, 0) + updates.get(UpdateState.FAILED, 0),
        stopped_rollouts=_count(session, Rollout.state == RolloutState.ABORTED, Rollout.ended_at > since),
        offline=_count(session, Event.tag == EventTag.NODE_OFFLINE, Event.at > since),
        bots=_count(session, Bot.phase != BotPhase.REMOVED),
        needing_attention=_list_names(state.needing_attention),
        down=_list_names(state.down),
    )


def _count(session: Session, *conditions: sa.ColumnElement[bool]) -> int:
    return session.scalar(sa.select(sa.func.count()).where(*conditions)) or 0


def _list_names(bots: Sequence[Bot]) -> list[str]:
    return [f"{bot.name} ({bot.org.name})" for bot in bots]
