"""What happened to one bot, for the people it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager, defer

from portal.models import Bot, BotUpdate, Event, Rollout, UpdateState, User

_WORDS = {
    "bot.created": "taken under management",
    "bot.started": "started",
    "bot.stopped": "stopped",
    "bot.restarted": "restarted",
    "bot.updated": "updated",
    "bot.update_failed": "update failed",
    "bot.state_changed": "state changed",
    "bot.attention_cleared": "put right by hand",
}


@dataclass(frozen=True)
class Happening:
    """One line of the log, in words."""

    event: Event
    words: str
    actor: str
    """Name of who did it; `Flotilla` where nobody did."""


def happenings(session: Session, bot: Bot, limit: int = 30) -> list[Happening]:
    """The latest events of a bot, the newest first."""
    query = (
        sa.select(Event, User.name)
        .outerjoin(User, User.id == Event.actor_id)
        .where(Event.bot_id == bot.id)
        .order_by(Event.id.desc())
        .limit(limit)
    )
    return [Happening(event, _words(event), name or "Flotilla") for event, name in session.execute(query)]


def updates(session: Session, bot: Bot, limit: int = 10) -> Sequence[BotUpdate]:
    """The latest updates of a bot that were more than a plan, the newest first."""
    query = (
        sa.select(BotUpdate)
        .join(BotUpdate.rollout)
        .join(Rollout.release)
        .where(BotUpdate.bot_id == bot.id, BotUpdate.state != UpdateState.SKIPPED)
        .options(contains_eager(BotUpdate.rollout).contains_eager(Rollout.release), defer(BotUpdate.saved_container))
        .order_by(BotUpdate.created_at.desc(), BotUpdate.id)
    )
    return session.scalars(query.limit(limit)).all()


def _words(event: Event) -> str:
    words = _WORDS.get(event.tag) or event.tag.partition(".")[2].replace("_", " ")
    facts = event.data
    if "version" in facts:
        words += f" to {facts['version']}" if event.tag == "bot.updated" else f", version {facts['version']}"
    if "old" in facts and "new" in facts:
        words += f": {facts['old']} → {facts['new']}"
    reason = facts.get("error") or facts.get("reason")
    return f"{words}: {reason}" if reason else words
