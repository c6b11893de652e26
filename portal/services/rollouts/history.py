"""The update history of a bot. Used by the page of a bot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager, defer

from portal.models import Bot, BotUpdate, Rollout, UpdateState


@dataclass(frozen=True)
class DataSize:
    """How large the data of a bot was when an update measured it."""

    bytes: int
    at: datetime


def find_data_size(session: Session, bot: Bot) -> DataSize | None:
    """Return the size of a bot's volumes at its latest update that has measured it; None without one."""
    query = sa.select(BotUpdate.journal, BotUpdate.started_at).where(
        BotUpdate.bot_id == bot.id, BotUpdate.started_at.is_not(None)
    )
    for journal, started in session.execute(query.order_by(BotUpdate.started_at.desc()).limit(5)):
        if sizes := (journal or {}).get("volume_sizes"):
            return DataSize(int(sizes[0]), started)
    return None


def list_updates(session: Session, bot: Bot, limit: int = 10) -> Sequence[BotUpdate]:
    """List the latest updates of a bot with their releases, newest first, without skipped updates."""
    query = (
        sa.select(BotUpdate)
        .join(BotUpdate.rollout)
        .join(Rollout.release)
        .where(BotUpdate.bot_id == bot.id, BotUpdate.state != UpdateState.SKIPPED)
        .options(contains_eager(BotUpdate.rollout).contains_eager(Rollout.release), defer(BotUpdate.saved_container))
        .order_by(BotUpdate.created_at.desc(), BotUpdate.id)
    )
    return session.scalars(query.limit(limit)).all()
