"""What was last seen of the bots: their state, their address, and the events when that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer

from portal.database import database_now
from portal.models import Bot, BotState, BotUpdate, EventTag, UpdateState
from portal.services import events


@dataclass(frozen=True)
class Observation:
    """One look at a bot.

    Attributes:
        bot_id: the bot.
        container_id: the container that was looked at.
        state: what it was found to be.
        detail: why, in words for people; None where all is well.
        address: `host:port` where it was asked.
    """

    bot_id: str
    container_id: str
    state: BotState
    detail: str | None
    address: str | None


def list_observable(session: Session, node_id: str) -> list[Bot]:
    """The bots of a node that nobody is at work on: no running update and no lease. Without their secrets."""
    updating = sa.select(BotUpdate.id).where(BotUpdate.bot_id == Bot.id, BotUpdate.state == UpdateState.RUNNING)
    return list(
        session.scalars(
            sa.select(Bot)
            .where(
                Bot.node_id == node_id,
                Bot.container_id.is_not(None),
                sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= database_now(session)),
                ~updating.exists(),
            )
            .options(defer(Bot.spec), defer(Bot.provision_secret))
            .order_by(Bot.id)
            # Whoever takes a bot's lease waits until what was seen before is written.
            .with_for_update(of=Bot)
        )
    )


def record_observations(session: Session, node_id: str, sightings: Sequence[Observation], now: datetime) -> None:
    """Write down what was seen, except of bots that somebody took in hand, or whose container changed, meanwhile."""
    bots = {bot.id: bot for bot in list_observable(session, node_id)}
    for sighting in sightings:
        bot = bots.get(sighting.bot_id)
        if bot is not None and bot.container_id == sighting.container_id:
            _write(session, bot, sighting, now)


def _write(session: Session, bot: Bot, sighting: Observation, now: datetime) -> None:
    if bot.state is not sighting.state:
        events.record(
            session,
            EventTag.BOT_STATE_CHANGED,
            org_id=bot.org_id,
            bot_id=bot.id,
            data={"old": bot.state, "new": sighting.state, "detail": sighting.detail},
        )
        bot.state_since = now
    bot.state, bot.state_detail, bot.checked_at = sighting.state, sighting.detail, now
    bot.address = sighting.address or bot.address
