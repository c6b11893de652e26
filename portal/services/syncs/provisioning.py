"""Connecting bots: whether Flotilla provisions a bot, and with which secret. Used by `flotilla bots`."""

from __future__ import annotations

import re
from datetime import datetime

from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotSync,
    EventTag,
    MemberSync,
    Provisioning,
    SyncRole,
    SyncState,
    update_where,
)
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.events import Actor
from portal.services.orgs import member_sync
from portal.services.syncs import operations, provision_secrets

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
    sync.attempts, sync.next_attempt_at, sync.last_error = 0, None, None
    sync.unanswered_calls, sync.next_call_at, sync.next_reconcile_at = 0, None, None
    sync.refused_removals = sync.allowed_removals = None
    session.flush()
    # Until now, the roles waited for nothing. Removals keep the moment of the removal, which the team page shows.
    waiting = (MemberSync.state != SyncState.SYNCED) & (MemberSync.desired_role != SyncRole.NONE)
    update_where(session, MemberSync, MemberSync.bot_id == bot.id, waiting, changed_at=now)
    member_sync.request_job(session, bot.node_id)
