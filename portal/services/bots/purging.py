"""What is left of an organization once the time to restore it is over: first its bots go, then its own row closes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    EventTag,
    Invite,
    InviteState,
    MemberSync,
    Org,
    OrgState,
    move,
)
from portal.services import events

MARGIN = timedelta(minutes=5)
"""So much later than the last moment of a restoring the first thing is removed, as clocks of machines differ."""


def list_due(session: Session, now: datetime) -> Sequence[tuple[str, str]]:
    """Id and node of every bot that is to be removed for good, and that nobody is at work on."""
    free = sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= database_now(session))
    query = sa.select(Bot.id, Bot.node_id).join(Bot.org).where(free, *_may_go(now)).order_by(Bot.id)
    return [(bot_id, node_id) for bot_id, node_id in session.execute(query)]


def is_purgeable(session: Session, bot_id: str, now: datetime) -> bool:
    """Whether this bot is to be removed for good.

    Only of an organization whose grace is over; only what was stopped; nothing that an update left unfinished or
    that a person has to look at first.
    """
    query = sa.select(Bot.id).join(Bot.org).where(Bot.id == bot_id, *_may_go(now))
    return session.scalar(query) is not None


def record_volumes(session: Session, bot_id: str, volumes: Sequence[str]) -> None:
    """Write down what is removed after the container, for then it cannot be asked any more."""
    session.get_one(Bot, bot_id).volumes_to_remove = list(volumes)


def mark_purged(session: Session, bot_id: str, kept: Sequence[str]) -> None:
    """Write down that container and volumes are gone.

    The row stays, for the log and past updates point at it, without the secrets it held; it is never polled,
    updated or looked at again, and its subdomain is free.

    Args:
        session: a transaction of the bot's holder.
        bot_id: the bot.
        kept: volumes that another container uses, which stay.
    """
    bot = session.get_one(Bot, bot_id)
    removed = [name for name in bot.volumes_to_remove or [] if name not in kept]
    data = {"container_id": bot.container_id, "volumes": removed, "kept": list(kept)}
    bot.container_id = bot.container_name = bot.address = bot.provision_secret = bot.volumes_to_remove = None
    bot.spec, bot.subdomain, bot.release_channel, bot.state = {}, f"gone-{bot.id}", Channel.PINNED, BotState.MISSING
    session.execute(sa.delete(MemberSync).where(MemberSync.bot_id == bot_id))
    events.record(session, EventTag.BOT_REMOVED, org_id=bot.org_id, bot_id=bot.id, data=data)


def close_deleted_orgs(session: Session, now: datetime) -> None:
    """Close every organization whose grace is over and whose bots are all gone; its slug stays reserved a while."""
    has_bots = sa.exists().where(Bot.org_id == Org.id, Bot.container_id.is_not(None))
    over = sa.select(Org).where(Org.state == OrgState.DELETING, Org.delete_after <= now - MARGIN, ~has_bots)
    for org in session.scalars(over).all():
        if move(session, org, OrgState.DELETING, OrgState.DELETED, deleted_at=now):
            pending = sa.update(Invite).where(Invite.org_id == org.id, Invite.state == InviteState.PENDING)
            session.execute(pending.values(state=InviteState.REVOKED, ended_at=now))
            events.record(session, EventTag.ORG_DELETED, org_id=org.id, data={"slug": org.slug, "name": org.name})


def _may_go(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    unfinished = sa.exists().where(BotUpdate.bot_id == Bot.id, BotUpdate.is_unfinished())
    return (
        Org.state == OrgState.DELETING,
        Org.delete_after <= now - MARGIN,
        Bot.applied_state == DesiredState.STOPPED,
        Bot.container_id.is_not(None),
        Bot.needs_attention.is_(None),
        ~unfinished,
    )
