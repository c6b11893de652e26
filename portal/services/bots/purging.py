"""Purge of removed bots and of the bots of deleted organizations, which are then closed.

Used by the scheduler and the purge job.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotSync,
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
from portal.services.bots import leases

MARGIN = timedelta(minutes=5)
"""Delay between the end of the grace period and the purge, because clocks of machines differ."""


def list_due(session: Session, now: datetime) -> Sequence[tuple[str, str]]:
    """Return id and node of every bot that can be purged and whose lease is free."""
    is_free = leases.is_free(database_now(session))
    query = sa.select(Bot.id, Bot.node_id).join(Bot.org).where(is_free, *_purgeable(now)).order_by(Bot.id)
    return [(bot_id, node_id) for bot_id, node_id in session.execute(query)]


def is_purgeable(session: Session, bot_id: str, now: datetime) -> bool:
    """Return whether a bot can be purged.

    Its own grace period or that of its organization is over, its container is stopped or was never created, and it
    has no unfinished update. The deletion of its organization does not purge a bot that needs attention.
    """
    query = sa.select(Bot.id).join(Bot.org).where(Bot.id == bot_id, *_purgeable(now))
    return session.scalar(query) is not None


def record_volumes(session: Session, bot_id: str, volumes: Sequence[str]) -> None:
    """Record the volumes to remove. They cannot be read from the container once it is gone."""
    session.get_one(Bot, bot_id).volumes_to_remove = list(volumes)


def keeps_data(bot: Bot) -> bool:
    """Return whether a purge keeps volumes and archives, as an operator has chosen for the removal of this bot."""
    return bot.phase is BotPhase.REMOVING and bot.keep_data is True


def mark_purged(session: Session, bot_id: str, kept: Sequence[str]) -> None:
    """Record that the container of a bot was removed, with its volumes or without them.

    The row stays without its secrets, because events and past updates refer to it. The bot is never polled, updated
    or probed again, and its subdomain is free.

    Args:
        session: a fenced transaction.
        bot_id: the bot.
        kept: volumes that were kept, because an operator chose so or because another container uses them.
    """
    bot = session.get_one(Bot, bot_id)
    removed = [name for name in bot.volumes_to_remove or [] if name not in kept]
    data = {"container_id": bot.container_id, "volumes": removed, "kept": list(kept)}
    bot.container_id = bot.container_name = bot.address = bot.provision_secret = bot.volumes_to_remove = None
    bot.spec, bot.subdomain, bot.release_channel, bot.state = {}, f"gone-{bot.id}", Channel.PINNED, BotState.MISSING
    bot.phase, bot.host_port, bot.creation_due_at, bot.creation_error = BotPhase.REMOVED, None, None, None
    bot.needs_attention = bot.restart_requested_at = None
    # In the order in which every transaction locks these rows.
    session.execute(sa.delete(BotSync).where(BotSync.bot_id == bot_id))
    session.execute(sa.delete(MemberSync).where(MemberSync.bot_id == bot_id))
    events.record(session, EventTag.BOT_REMOVED, org_id=bot.org_id, bot_id=bot.id, data=data)


def close_deleted_orgs(session: Session, now: datetime) -> None:
    """Close every organization whose grace period is over and whose bots are all purged. Its slug stays reserved."""
    has_bots = sa.exists().where(Bot.org_id == Org.id, Bot.phase != BotPhase.REMOVED)
    due = sa.select(Org).where(Org.state == OrgState.DELETING, Org.delete_after <= now - MARGIN, ~has_bots)
    for org in session.scalars(due).all():
        if move(session, org, OrgState.DELETING, OrgState.DELETED, deleted_at=now):
            pending = sa.update(Invite).where(Invite.org_id == org.id, Invite.state == InviteState.PENDING)
            session.execute(pending.values(state=InviteState.REVOKED, ended_at=now))
            events.record(session, EventTag.ORG_DELETED, org_id=org.id, data={"slug": org.slug, "name": org.name})


def _purgeable(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    unfinished = sa.exists().where(BotUpdate.bot_id == Bot.id, BotUpdate.is_unfinished())
    # A failed rollback may have left the only copy of the data in an archive. The removal of a single bot has an
    # explicit choice about the data; the deletion of an organization waits for an operator.
    org_expired = sa.and_(
        Org.state == OrgState.DELETING, Org.delete_after <= now - MARGIN, Bot.needs_attention.is_(None)
    )
    bot_expired = sa.and_(Bot.phase == BotPhase.REMOVING, Bot.remove_after <= now - MARGIN)
    # Almost no bot is being removed, so two partial indexes find those without reading the others.
    removing = Bot.select_exceptional().where(Bot.phase == BotPhase.REMOVING)
    of_inactive = sa.select(Bot.id).where(Bot.org_id.in_(sa.select(Org.id).where(Org.is_inactive())))
    return (
        Bot.id.in_(sa.union(removing, of_inactive)),
        Bot.phase != BotPhase.REMOVED,
        sa.or_(org_expired, bot_expired),
        sa.or_(Bot.applied_state == DesiredState.STOPPED, Bot.container_id.is_(None)),
        ~unfinished,
    )
