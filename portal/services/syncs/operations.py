"""What people can do about a sync: retry, resync, allow removals, set a budget. Used by pages and `flotilla`."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, BotSync, EventTag, MemberSync, Provisioning, update_where
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.events import Actor
from portal.services.orgs import member_sync
from portal.services.syncs import claims, failures

MAX_BUDGET_CENTS = 2**31 - 1


def retry(session: Session, row: MemberSync) -> None:
    """Make the next attempt of one row due now, and that of provisioning, without which the row is not sent.

    The desired role and the number of attempts stay.
    """
    bot = session.get_one(Bot, row.bot_id)
    update_where(session, BotSync, BotSync.bot_id == bot.id, next_call_at=None, next_attempt_at=None)
    update_where(session, MemberSync, MemberSync.id == row.id, next_attempt_at=None)
    member_sync.request_job(session, bot.node_id)


def retry_bot(session: Session, bot: Bot) -> None:
    """Make all failed calls to one bot due now."""
    failures.repeat_now(session, bot.id)
    member_sync.request_job(session, bot.node_id)


def retry_all(session: Session) -> None:
    """Make all failed calls to all bots due now."""
    failures.repeat_now(session)
    for node_id in session.scalars(sa.select(Bot.node_id).distinct().where(Bot.phase == BotPhase.ACTIVE)):
        member_sync.request_job(session, node_id)


def resync_bot(session: Session, bot: Bot, now: datetime, *, actor: Actor) -> None:
    """Provision a bot again, send all members again and compare them, as after a restore of its data.

    Args:
        session: a writing transaction.
        bot: the bot.
        now: the current moment.
        actor: the operator; None for the command line.

    Raises:
        ConflictError: the bot gets no members from Flotilla.
    """
    sync = _require_connected(session, bot)
    begin_epoch(session, bot)
    sync.next_reconcile_at, sync.changed_at = None, now
    session.flush()
    retry_bot(session, bot)
    events.record(session, EventTag.SYNC_REQUESTED, actor=actor, org_id=bot.org_id, bot_id=bot.id)


def allow_removals(session: Session, bot: Bot, *, actor: Actor) -> int:
    """Allow the next reconciliation to remove as many unknown members as the last one has refused to remove.

    Returns:
        The number of members.

    Raises:
        ConflictError: no removals were refused.
    """
    sync = _require_connected(session, bot)
    refused = sync.refused_removals
    if refused is None:
        raise ConflictError(f"No removals from {bot.name} were refused.")
    soon = {"allowed_removals": refused, "next_reconcile_at": None, "next_attempt_at": None}
    update_where(session, BotSync, BotSync.bot_id == bot.id, **soon)
    data = {"unknown": refused}
    events.record(session, EventTag.SYNC_REMOVALS_ALLOWED, actor=actor, org_id=bot.org_id, bot_id=bot.id, data=data)
    member_sync.request_job(session, bot.node_id)
    return refused


def set_budget(session: Session, bot: Bot, cents: int, per_agent_cents: int | None, *, actor: Actor) -> None:
    """Set the monthly budget of a bot. The current budget changes nothing.

    Args:
        session: a writing transaction.
        bot: the bot.
        cents: budget of the company in cents.
        per_agent_cents: budget per agent in cents; None to send none.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: a budget is negative or too large.
        ConflictError: the bot gets no members from Flotilla.
    """
    sync = _require_connected(session, bot)
    for amount in (cents, per_agent_cents or 0):
        if not 0 <= amount <= MAX_BUDGET_CENTS:
            raise InvalidError(f"A budget is a number of cents from 0 to {MAX_BUDGET_CENTS}.", "cents")
    old, new = (sync.budget_cents, sync.per_agent_budget_cents), (cents, per_agent_cents)
    if old == new:
        return
    budget = {"budget_cents": cents, "per_agent_budget_cents": per_agent_cents, "next_attempt_at": None}
    update_where(session, BotSync, BotSync.bot_id == bot.id, **budget)
    names = ("cents", "cents_per_agent")
    data = {"old": dict(zip(names, old, strict=True)), "new": dict(zip(names, new, strict=True))}
    events.record(session, EventTag.BOT_BUDGET_CHANGED, actor=actor, org_id=bot.org_id, bot_id=bot.id, data=data)
    member_sync.request_job(session, bot.node_id)


def lock_sync(session: Session, bot_id: str) -> BotSync:
    """Lock a bot and its sync until the transaction ends, and read the sync again.

    Every transaction locks a bot before its sync, and that before its members, so that none waits in a circle.
    """
    claims.lock_bot(session, bot_id)
    return session.get_one(BotSync, bot_id, with_for_update=True, populate_existing=True)


def begin_epoch(session: Session, bot: Bot) -> None:
    """Begin a new epoch of a bot's data, in which all observed roles are unknown."""
    update_where(session, Bot, Bot.id == bot.id, epoch=Bot.epoch + 1)
    session.refresh(bot, ["epoch"])


def _require_connected(session: Session, bot: Bot) -> BotSync:
    sync = lock_sync(session, bot.id)
    if sync.provisioning is Provisioning.OFF:
        raise ConflictError(f"{bot.name} is not provisioned. Run `flotilla bots provision` first.")
    return sync
