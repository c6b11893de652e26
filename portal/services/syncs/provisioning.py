"""Connecting bots: whether Flotilla provisions a bot, and with which secret. Used by `flotilla bots`."""

from __future__ import annotations

import re
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, BotSync, EventTag, MemberSync, Provisioning, SyncRole, SyncState
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.events import Actor
from portal.services.syncs import claims, operations, provision_secrets, selection

_COMPANY_ID = re.compile(r"[\x21-\x7e]{1,100}")


def provision_bot(
    session: Session, bot: Bot, secret: str | None, *, company_id: str | None = None, now: datetime, actor: Actor
) -> None:
    """Connect a bot: to an existing company, or to one that Flotilla provisions.

    Every call begins a new epoch, so everything is sent again.

    Args:
        session: a writing transaction.
        bot: the bot.
        secret: the provision secret that the bot knows; None to keep the stored one.
        company_id: the bot's id of an existing company; None to provision one.
        now: the current moment.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: the secret or the company is not valid, or there is no secret.
        ConflictError: the bot is being created or removed.
    """
    if bot.phase is not BotPhase.ACTIVE:
        raise ConflictError(f"{bot.name} is being created or removed. Try again later.")
    if company_id is not None and not _COMPANY_ID.fullmatch(company_id):
        raise InvalidError("A company id has up to 100 ASCII characters and no spaces.", "company")
    sync = operations.lock_sync(session, bot.id)
    if secret is not None:
        bot.provision_secret = {"current": provision_secrets.require_valid(secret), "next": None}
    elif not bot.provision_secret:
        raise InvalidError(f"{bot.name} has no secret yet. Name it with --secret-file.", "secret")
    bot.company_id = company_id
    operations.begin_epoch(session, bot)
    _connect(session, bot, sync, Provisioning.LINKED if company_id else Provisioning.MANAGED, now)
    data = {"company": company_id} if company_id else {}
    events.record(session, EventTag.BOT_CONNECTED, actor=actor, org_id=bot.org_id, bot_id=bot.id, data=data)


def _connect(session: Session, bot: Bot, sync: BotSync, provisioning: Provisioning, now: datetime) -> None:
    sync.provisioning, sync.state, sync.changed_at = provisioning, SyncState.PENDING, now
    sync.attempts, sync.last_error, sync.unanswered_calls = 0, None, 0
    sync.next_reconcile_at = sync.refused_removals = sync.allowed_removals = None
    session.flush()
    _forget_failures(session, bot, now)
    operations.retry_bot(session, bot)


def _forget_failures(session: Session, bot: Bot, now: datetime) -> None:
    """Let the unsynced roles of a bot begin again: failures of the former connection say nothing about this one."""
    # Before the connection, pending roles were not overdue. Removals are listed for a week after the removal itself.
    is_removal = MemberSync.desired_role == SyncRole.NONE
    claims.update_members(
        session,
        MemberSync.bot_id == bot.id,
        selection.is_unsynced(),
        state=SyncState.PENDING,
        attempts=0,
        last_error=None,
        changed_at=sa.case((is_removal, MemberSync.changed_at), else_=now),
    )
