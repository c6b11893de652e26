"""The downtime to expect from an update, by past updates. Used by the changelog of a bot."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotUpdate, UpdateState

_OF_THE_BOT = 10
_OF_THE_FLEET = 50
"""Number of latest updates that count."""


@dataclass(frozen=True)
class ExpectedDowntime:
    """The median downtime of the latest successful updates."""

    span: timedelta
    of_this_bot: bool
    """Whether these were updates of the bot itself, and not of all bots."""


def expect_downtime(session: Session, bot: Bot) -> ExpectedDowntime | None:
    """Return the median downtime of the bot's latest updates, else of the fleet's; None without any."""
    own = _find_median(session, _OF_THE_BOT, BotUpdate.bot_id == bot.id)
    if own is not None:
        return ExpectedDowntime(own, of_this_bot=True)
    of_all = _find_median(session, _OF_THE_FLEET)
    return ExpectedDowntime(of_all, of_this_bot=False) if of_all is not None else None


def _find_median(session: Session, number: int, *conditions: sa.ColumnElement[bool]) -> timedelta | None:
    latest = (
        sa.select(BotUpdate.stopped_at, BotUpdate.answering_at)
        .where(BotUpdate.state == UpdateState.UPDATED, *conditions)
        .order_by(BotUpdate.ended_at.desc())
        .limit(number)
    )
    seconds = [
        (answering - stopped).total_seconds()
        for stopped, answering in session.execute(latest)
        if stopped is not None and answering is not None
    ]
    return timedelta(seconds=statistics.median(seconds)) if seconds else None
