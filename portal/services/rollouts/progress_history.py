"""Progress of a rollout over time, for a chart. Used by the page of a rollout and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, UpdateState
from portal.services.rollouts.progress import FAILED_STATES

_COLUMNS = 48
_MIN_WIDTH = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Moment:
    """Numbers of bots at one moment.

    Attributes:
        at: the moment.
        updated: bots updated until then.
        failed: bots whose update failed until then.
    """

    at: datetime
    updated: int
    failed: int


def list_moments(session: Session, rollout: Rollout, now: datetime) -> Sequence[Moment]:
    """Return the progress at equal intervals from the start until the end, or until now; empty before the start.

    Args:
        session: the transaction.
        rollout: the rollout.
        now: the moment.
    """
    if rollout.started_at is None:
        return []
    start, end = rollout.started_at, _find_end(session, rollout, now)
    width = max(_MIN_WIDTH, (end - start) / _COLUMNS)
    # Whole seconds, because the database divides integers.
    width = timedelta(seconds=int(width.total_seconds()) + 1)
    ended = _count_by_interval(session, rollout, width)
    moments, updated, failed = [], 0, 0
    for number in range((end - start) // width + 1):
        updated += ended.get((number, True), 0)
        failed += ended.get((number, False), 0)
        moments.append(Moment(min(end, start + (number + 1) * width), updated, failed))
    return moments


def _find_end(session: Session, rollout: Rollout, now: datetime) -> datetime:
    """Return the end of the rollout or of its last update, which may be later; now while it is open."""
    if rollout.ended_at is None:
        return now
    last = session.scalar(
        sa.select(sa.func.max(BotUpdate.ended_at)).where(BotUpdate.rollout_id == rollout.id, _is_outcome())
    )
    return max(rollout.ended_at, last or rollout.ended_at)


def _count_by_interval(session: Session, rollout: Rollout, width: timedelta) -> dict[tuple[int, bool], int]:
    """Count the updated and the failed bots by the number of the interval in which their update ended."""
    epoch = sa.cast(sa.extract("epoch", BotUpdate.ended_at), sa.BigInteger)
    start = int(rollout.started_at.timestamp()) if rollout.started_at else 0
    number = ((epoch - start) // int(width.total_seconds())).label("number")
    is_updated = (BotUpdate.state == UpdateState.UPDATED).label("is_updated")
    query = (
        sa.select(number, is_updated, sa.func.count())
        .where(BotUpdate.rollout_id == rollout.id, _is_outcome(), BotUpdate.ended_at.is_not(None))
        .group_by("number", "is_updated")
    )
    counts: dict[tuple[int, bool], int] = {}
    for interval, updated, count in session.execute(query):
        key = (max(0, interval), bool(updated))
        counts[key] = counts.get(key, 0) + count
    return counts


def _is_outcome() -> sa.ColumnElement[bool]:
    return BotUpdate.state.in_((UpdateState.UPDATED, *FAILED_STATES))
