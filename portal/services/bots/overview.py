"""What operators look at first: what is running, what failed, what needs a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased, joinedload

from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    DesiredState,
    Node,
    NodeState,
    PolledImage,
    Rollout,
    RolloutState,
    UpdateState,
)

FAILED_WITHIN = timedelta(days=7)
"""How far back failures are shown."""
_MOST = 20
Row = TypeVar("Row")
_FAILED = (UpdateState.FAILED, UpdateState.ROLLED_BACK)


@dataclass(frozen=True)
class Overview:
    """The fleet at a glance. Every list is short enough for one screen."""

    rollouts: Sequence[Rollout]
    """Those that have not ended."""
    failed: Sequence[BotUpdate]
    """Failed lately, and the bot was not updated since; trying again is a person's choice."""
    stuck: Sequence[Bot]
    """Their rollback failed: data and old container are kept until a person has looked."""
    unwell: Sequence[Bot]
    """Should run and do not answer."""
    nodes: Sequence[Node]
    """Do not answer."""
    images: Sequence[PolledImage]
    """Bots follow them, and the registry gave no good answer last time."""
    bots: int
    updating: int

    @property
    def paused(self) -> list[Rollout]:
        """Rollouts that wait for somebody to resume or abort them."""
        return [rollout for rollout in self.rollouts if rollout.state is RolloutState.PAUSED]

    @property
    def calm(self) -> bool:
        """Whether nothing needs a person."""
        return not (self.paused or self.stuck or self.unwell or self.nodes or self.images)


def load_overview(session: Session, now: datetime) -> Overview:
    """Look at everything at once."""
    running = sa.select(sa.func.count()).select_from(BotUpdate).where(BotUpdate.state == UpdateState.RUNNING)
    bad = Bot.state.in_({BotState.UNHEALTHY, BotState.MISSING}) & (Bot.desired_state == DesiredState.RUNNING)
    # A digest that was looked up in vain is told of at the releases; it keeps no bot from anything.
    silent = sa.select(PolledImage).where(PolledImage.errors > 0, ~PolledImage.asked_once)
    return Overview(
        rollouts=_list(
            session,
            sa.select(Rollout)
            .where(Rollout.state.in_(Rollout.OPEN))
            .options(joinedload(Rollout.release), joinedload(Rollout.starter))
            .order_by(Rollout.created_at.desc()),
        ),
        failed=_failed(session, now),
        stuck=_list(session, _bots().where(Bot.needs_attention.is_not(None))),
        unwell=_list(session, _bots().where(bad, Bot.needs_attention.is_(None))),
        nodes=_list(session, sa.select(Node).where(Node.state == NodeState.OFFLINE).order_by(Node.name)),
        images=_list(session, silent.order_by(PolledImage.image)),
        bots=session.scalar(sa.select(sa.func.count()).select_from(Bot)) or 0,
        updating=session.scalar(running) or 0,
    )


def _bots() -> sa.Select[Bot]:
    return sa.select(Bot).options(joinedload(Bot.org), joinedload(Bot.node)).order_by(Bot.name)


def _failed(session: Session, now: datetime) -> Sequence[BotUpdate]:
    later = aliased(BotUpdate)
    since = (
        sa.select(later.id)
        .where(
            later.bot_id == BotUpdate.bot_id,
            later.created_at > BotUpdate.created_at,
            later.state.in_([UpdateState.UPDATED, UpdateState.PENDING, UpdateState.RUNNING, *_FAILED]),
        )
        .exists()
    )
    return _list(
        session,
        sa.select(BotUpdate)
        .where(BotUpdate.state.in_(_FAILED), BotUpdate.ended_at > now - FAILED_WITHIN, ~since)
        .options(
            joinedload(BotUpdate.bot).joinedload(Bot.org),
            joinedload(BotUpdate.rollout).joinedload(Rollout.release),
        )
        .order_by(BotUpdate.ended_at.desc()),
    )


def _list(session: Session, query: sa.Select[Row]) -> Sequence[Row]:
    return session.scalars(query.limit(_MOST)).all()
