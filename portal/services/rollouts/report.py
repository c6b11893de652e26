"""The facts of a rollout for its report and for comparing two rollouts. Used by pages of operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import BotUpdate, Release, Rollout, SkipReason, UpdateState
from portal.services.rollouts.progress import FAILED_STATES, RolloutSummary, summarize_all

_SAMPLE = 200
_ERRORS = 20
_COMPARABLE = 50


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the latest updates took, and how long their bots did not answer; None without such updates."""

    update: timedelta | None
    longest_update: timedelta | None
    downtime: timedelta | None
    longest_downtime: timedelta | None


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """A rollout in numbers.

    Attributes:
        rollout: the rollout.
        summary: its state and counts.
        lasted: from its start to its end, or to now.
        durations: medians and maxima of the last 200 successful updates.
        skipped: number of skipped bots by reason.
        errors: the most frequent errors with the number of bots, the most frequent first.
    """

    rollout: Rollout
    summary: RolloutSummary
    lasted: timedelta | None
    durations: Durations
    skipped: dict[SkipReason, int]
    errors: Sequence[tuple[str, int]]


def load_report(
    session: Session, rollout: Rollout, now: datetime, health_check_timeout: timedelta | None
) -> RolloutReport:
    """Load the report of a rollout.

    Args:
        session: the transaction.
        rollout: the rollout.
        now: the moment.
        health_check_timeout: the setting of this installation, if given.
    """
    ended = rollout.ended_at or now
    return RolloutReport(
        rollout=rollout,
        summary=summarize_all(session, [rollout], now, health_check_timeout)[rollout.id],
        lasted=ended - rollout.started_at if rollout.started_at else None,
        durations=_measure(session, rollout),
        skipped=_count_skipped(session, rollout),
        errors=_count_errors(session, rollout),
    )


def list_comparable(session: Session, rollout: Rollout) -> Sequence[Rollout]:
    """List the latest other rollouts of the same repository, at most 50."""
    query = (
        sa.select(Rollout)
        .join(Rollout.release)
        .where(Release.repository == rollout.release.repository, Rollout.id != rollout.id)
        .options(joinedload(Rollout.release))
    )
    return session.scalars(query.order_by(Rollout.created_at.desc(), Rollout.id).limit(_COMPARABLE)).all()


def _measure(session: Session, rollout: Rollout) -> Durations:
    # A sample, because the database would have to read the rows of all updates, which are long.
    query = (
        sa.select(BotUpdate.started_at, BotUpdate.ended_at, BotUpdate.stopped_at, BotUpdate.answering_at)
        .where(BotUpdate.rollout_id == rollout.id, BotUpdate.state == UpdateState.UPDATED)
        .order_by(BotUpdate.wave.desc(), BotUpdate.ended_at.desc())
        .limit(_SAMPLE)
    )
    rows = session.execute(query).all()
    updates = sorted(row.ended_at - row.started_at for row in rows if row.started_at and row.ended_at)
    downtimes = sorted(row.answering_at - row.stopped_at for row in rows if row.stopped_at and row.answering_at)
    return Durations(*_middle_and_last(updates), *_middle_and_last(downtimes))


def _middle_and_last(spans: Sequence[timedelta]) -> tuple[timedelta | None, timedelta | None]:
    return (spans[len(spans) // 2], spans[-1]) if spans else (None, None)


def _count_skipped(session: Session, rollout: Rollout) -> dict[SkipReason, int]:
    query = (
        sa.select(BotUpdate.skip_reason, sa.func.count())
        .where(BotUpdate.rollout_id == rollout.id, BotUpdate.state == UpdateState.SKIPPED)
        .group_by(BotUpdate.skip_reason)
    )
    found = {reason: number for reason, number in session.execute(query) if reason is not None}
    return {reason: found[reason] for reason in SkipReason if reason in found}


def _count_errors(session: Session, rollout: Rollout) -> list[tuple[str, int]]:
    number = sa.func.count().label("number")
    query = (
        sa.select(BotUpdate.error, number)
        .where(BotUpdate.rollout_id == rollout.id, BotUpdate.state.in_(FAILED_STATES), BotUpdate.error.is_not(None))
        .group_by(BotUpdate.error)
        .order_by(number.desc(), BotUpdate.error)
        .limit(_ERRORS)
    )
    return [(error, count) for error, count in session.execute(query) if error]
