"""Versions of what pages show of rollouts, read in two statements. Used to answer polls of unchanged pages.

A page polls every few seconds and mostly nothing has changed. The versions tell this before anything is loaded or
rendered. What they do not contain, such as the state of nodes, is shown after `_REFRESH` at the latest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, UpdateState

_REFRESH = timedelta(seconds=30)
_ENDED = tuple(state for state in UpdateState if state not in {UpdateState.PENDING, UpdateState.RUNNING})


def find_version(session: Session, rollout: Rollout, now: datetime) -> str:
    """Return the version of the page of a rollout.

    Args:
        session: the transaction.
        rollout: the rollout.
        now: the moment.
    """
    # An index contains all these columns.
    counts = (
        sa.select(
            BotUpdate.state,
            sa.func.count(),
            sa.func.count(BotUpdate.wave),
            sa.func.max(BotUpdate.wave),
            sa.func.max(BotUpdate.ended_at),
        )
        .where(BotUpdate.rollout_id == rollout.id)
        .group_by(BotUpdate.state)
        .order_by(BotUpdate.state)
    )
    return _digest(_describe(rollout), session.execute(counts).all(), _slot(now))


def find_list_version(session: Session, rollouts: Sequence[Rollout], now: datetime) -> str:
    """Return the version of a list of rollouts. It costs the same for any number of bots.

    Args:
        session: the transaction.
        rollouts: the rollouts of the list.
        now: the moment.
    """
    running = sa.select(BotUpdate.id).where(BotUpdate.is_running()).order_by(BotUpdate.id)
    # An index finds the latest end of each state. Each update that begins or ends changes one of both.
    latest = (
        sa.select(sa.func.max(BotUpdate.ended_at)).where(BotUpdate.state == state).scalar_subquery()
        for state in _ENDED
    )
    return _digest(
        [_describe(rollout) for rollout in rollouts],
        session.scalars(running).all(),
        session.execute(sa.select(*latest)).all(),
        _slot(now),
    )


def _describe(rollout: Rollout) -> tuple[Any, ...]:
    return (
        rollout.id,
        rollout.state,
        rollout.reason,
        rollout.ended_at,
        rollout.pause_skipped_at,
        rollout.ignore_windows,
        rollout.release.quarantined_at,
    )


def _slot(now: datetime) -> int:
    return int(now.timestamp() // _REFRESH.total_seconds())


def _digest(*facts: Any) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
