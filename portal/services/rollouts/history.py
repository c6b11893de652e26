"""The update history of a bot. Used by the page of a bot."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager, defer

from portal.models import Bot, BotUpdate, Rollout, UpdateState


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
