"""Outcomes of the rollouts of the last weeks, by day. Used by the chart on the operators' overview."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, UpdateState

DAYS = 30
"""Number of days in the history, today included."""


@dataclass(frozen=True)
class DayOutcomes:
    """Bots of the rollouts that were started on one day (UTC), by outcome."""

    day: date
    updated: int
    failed: int
    """Rolled back, failed, or in need of attention."""
    skipped: int


def list_outcomes(session: Session, now: datetime) -> Sequence[DayOutcomes]:
    """List the outcomes of the last `DAYS` days, oldest first. Days without a rollout have zeros."""
    days = [now.date() - timedelta(days=ago) for ago in reversed(range(DAYS))]
    first = datetime.combine(days[0], datetime.min.time(), now.tzinfo)
    counts = _count(session, first)
    failed = (UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.NEEDS_ATTENTION)
    return [
        DayOutcomes(
            day,
            updated=counts[day, UpdateState.UPDATED],
            failed=sum(counts[day, state] for state in failed),
            skipped=counts[day, UpdateState.SKIPPED],
        )
        for day in days
    ]


def _count(session: Session, first: datetime) -> Counter[tuple[date, UpdateState]]:
    """Count updates by the day of their rollout and by state, from the index of rollout and state."""
    per_rollout = (
        sa.select(BotUpdate.rollout_id, BotUpdate.state, sa.func.count().label("number"))
        .where(BotUpdate.rollout_id.in_(sa.select(Rollout.id).where(Rollout.created_at >= first)))
        .group_by(BotUpdate.rollout_id, BotUpdate.state)
        .subquery()
    )
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    in_utc = Rollout.created_at if is_sqlite else sa.func.timezone("UTC", Rollout.created_at)
    day = sa.cast(sa.func.date(in_utc), sa.String)
    query = (
        sa.select(day, per_rollout.c.state, sa.func.sum(per_rollout.c.number))
        .join(Rollout, Rollout.id == per_rollout.c.rollout_id)
        .group_by(day, per_rollout.c.state)
    )
    return Counter({(date.fromisoformat(text), state): number for text, state, number in session.execute(query)})
