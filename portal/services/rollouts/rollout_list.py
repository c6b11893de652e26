"""Lists of rollouts: open ones, and pages of those that have ended. Used by the list's page and the command line."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import Rollout
from portal.services.paging import Page, load_page

ROLLOUTS_PER_PAGE = 20
_MAX_OPEN = 50


def list_recent_rollouts(session: Session, limit: int = 50) -> Sequence[Rollout]:
    """List rollouts with their releases and starters, open ones first, then the latest."""
    still_open = list_open_rollouts(session)[:limit]
    ended = session.scalars(_select_ended().limit(limit - len(still_open))).all()
    return [*still_open, *ended]


def list_open_rollouts(session: Session) -> Sequence[Rollout]:
    """List the latest open rollouts with their releases and starters, at most 50."""
    query = _select().where(Rollout.state.in_(Rollout.OPEN))
    return session.scalars(query.limit(_MAX_OPEN)).all()


def load_ended_rollouts(session: Session, page: int) -> Page[Rollout]:
    """Return one page of the rollouts that have ended, the latest first."""
    return load_page(session, _select_ended(), page, ROLLOUTS_PER_PAGE, list)


def _select_ended() -> sa.Select[Rollout]:
    return _select().where(Rollout.state.not_in(Rollout.OPEN))


def _select() -> sa.Select[Rollout]:
    return (
        sa.select(Rollout)
        .options(joinedload(Rollout.release), joinedload(Rollout.starter))
        .order_by(Rollout.created_at.desc(), Rollout.id)
    )
