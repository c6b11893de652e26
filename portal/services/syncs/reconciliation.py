"""Reconciliation: the members that a bot lists are compared with those that it should have, and repaired.

It happens when a bot becomes healthy, in each new epoch, and every 10 minutes. A bot that cannot list its members
gets all of them again. Used by `daemon.provision.bot_sync`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotSync, EventTag, MemberSync, SyncRole, SyncState, update_where
from portal.rules import member_drift
from portal.rules.member_drift import ExpectedMember, ListedMember
from portal.services import events
from portal.services.syncs import claims, failures
from portal.services.syncs.claims import Claim
from portal.services.syncs.endpoints import Endpoint, read_endpoint
from portal.services.syncs.member_calls import derive_key
from portal.services.syncs.selection import (
    can_be_called,
    is_member_due,
    is_provisioned,
    is_reconciliation_due,
    is_time_for,
)

INTERVAL = timedelta(minutes=10)
_JITTER = 0.1
_MAX_EVENTS = 20
"""How many differences of one reconciliation are recorded one by one. A lying bot must not flood the log."""


@dataclass(frozen=True)
class Reconciliation:
    """A reconciliation that is due.

    Attributes:
        endpoint: where to ask for the members, and the epoch before that.
        company_id: the company.
    """

    endpoint: Endpoint
    company_id: str


@dataclass(frozen=True)
class UnknownMemberRemoval:
    """A call that removes a member whom Flotilla does not know.

    Attributes:
        endpoint: where to send the call, and the epoch before it is sent.
        body: content of the call.
        key: the idempotency key.
    """

    endpoint: Endpoint
    body: Mapping[str, Any]
    key: str


def begin(session: Session, claim: Claim, now: datetime) -> Reconciliation | None:
    """Return the reconciliation of a bot, or None if none is due or the bot cannot be called now.

    Raises:
        ClaimLost: another worker has claimed the bot.
    """
    claims.renew(session, claim)
    is_due = (is_provisioned(), is_reconciliation_due(now), is_time_for(BotSync.next_attempt_at, now))
    bot = _load_callable(session, claim, *is_due)
    return None if bot is None else Reconciliation(read_endpoint(bot), str(bot.company_id))


def record_no_list(session: Session, claim: Claim, due: Reconciliation) -> None:
    """Record that the bot does not list its members, and make all of its rows due.

    Rows that were just sent are not due again: those of an interrupted round, and all in a new epoch. Unknown members
    cannot be counted without a list, so a former refusal to remove them ends.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    moment = claims.renew(session, claim)
    sync = session.get_one(BotSync, claim.bot_id, populate_existing=True)
    is_interrupted = sync.resend_before is not None and (
        sync.reconciled_at is None or sync.reconciled_at < sync.resend_before
    )
    sync.lists_members = False
    sync.refused_removals = sync.allowed_removals = None
    if not is_interrupted and sync.reconciled_epoch == due.endpoint.epoch:
        sync.resend_before = moment
    session.flush()


def record_list(
    session: Session, claim: Claim, reconciliation: Reconciliation, listed: Sequence[ListedMember], now: datetime
) -> Sequence[ListedMember]:
    """Compare a list of members with the observed roles, and make the rows of all differences due.

    Rows that changed since are due anyway and are not compared.

    Returns:
        The members whom Flotilla does not know and who have to be removed; none if they are too many.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    claims.renew(session, claim)
    bot, sync = _load_rows(session, claim)
    if bot.epoch != reconciliation.endpoint.epoch or bot.company_id != reconciliation.company_id:
        return []  # the list shows the past, and another reconciliation is due
    sync.lists_members = True
    # The lock keeps a concurrent change of a membership from being overwritten.
    locked = sa.select(MemberSync).where(MemberSync.bot_id == bot.id).order_by(MemberSync.id).with_for_update()
    rows = session.scalars(locked).all()
    by_id = {member.user_id: member for member in listed}
    sync.drift_count += _repair(session, bot, rows, by_id, now)
    unknown = member_drift.list_unknown((row.user_id for row in rows), by_id)
    return _admit_removals(session, bot, sync, unknown, len(listed))


def next_removal(
    session: Session, claim: Claim, now: datetime, *, due: Reconciliation, member: ListedMember
) -> UnknownMemberRemoval | None:
    """Build the removal of a member whom Flotilla does not know, at the moment of sending.

    Returns:
        None if the user has joined since, or the bot cannot be called now.

    Raises:
        ClaimLost: another worker has claimed the bot.
    """
    claims.renew(session, claim)
    is_known = sa.exists().where(MemberSync.bot_id == Bot.id, MemberSync.user_id == member.user_id)
    is_same = (Bot.epoch == due.endpoint.epoch, Bot.company_id == due.company_id)
    bot = _load_callable(session, claim, ~is_known, *is_same)
    if bot is None:
        return None
    body = {"companyId": due.company_id, "userId": member.user_id, "version": (member.version or 0) + 1}
    # Each reconciliation removes with another key, because the bot may answer a known one without doing anything.
    return UnknownMemberRemoval(read_endpoint(bot), body, derive_key(body, bot.epoch, now))


def finish(session: Session, claim: Claim, due: Reconciliation, now: datetime) -> None:
    """Record a complete reconciliation and schedule the next one, unless rows are still due.

    Rows stay due without a call where an update of the bot has begun.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    moment = claims.renew(session, claim)
    of_bot = sa.exists().where(MemberSync.bot_id == Bot.id, is_member_due(now))
    if _load_callable(session, claim, Bot.epoch == due.endpoint.epoch, ~of_bot) is None:
        return
    pause = INTERVAL * (1 + random.uniform(-_JITTER, _JITTER))  # noqa: S311 - not a secret
    update_where(
        session,
        BotSync,
        BotSync.bot_id == claim.bot_id,
        reconciled_at=moment,
        reconciled_epoch=due.endpoint.epoch,
        next_reconcile_at=now + pause,
        state=SyncState.SYNCED,
        attempts=0,
        next_attempt_at=None,
        last_error=None,
    )


def request(session: Session, bot_id: str) -> None:
    """Make the reconciliation and all repetitions of a bot due now, because the bot has just become healthy."""
    update_where(session, BotSync, BotSync.bot_id == bot_id, next_reconcile_at=None)
    failures.repeat_now(session, bot_id)


def _load_callable(session: Session, claim: Claim, *conditions: sa.ColumnElement[bool]) -> Bot | None:
    query = sa.select(Bot).join(BotSync, BotSync.bot_id == Bot.id)
    query = query.where(Bot.id == claim.bot_id, can_be_called(), *conditions)
    return session.scalar(query.options(*Endpoint.LOADED))


def _load_rows(session: Session, claim: Claim) -> tuple[Bot, BotSync]:
    query = sa.select(Bot, BotSync).join(BotSync, BotSync.bot_id == Bot.id).where(Bot.id == claim.bot_id)
    bot, sync = session.execute(query.options(*Endpoint.LOADED)).one()
    return bot, sync


def _repair(
    session: Session, bot: Bot, rows: Sequence[MemberSync], listed: Mapping[str, ListedMember], now: datetime
) -> int:
    """Make the rows due that the bot lists differently, record them, and return their number."""
    settled = {row.user_id: row for row in rows if row.state is SyncState.SYNCED and row.observed_epoch == bot.epoch}
    expected = {id_: ExpectedMember(row.desired_role, row.desired_version) for id_, row in settled.items()}
    drifted = member_drift.find_drift(expected, listed)
    for user_id in drifted:
        _make_due(settled[user_id], listed.get(user_id), now)
    session.flush()
    for user_id in drifted[:_MAX_EVENTS]:
        found, wanted = listed.get(user_id), settled[user_id].desired_role
        data = {"user_id": user_id, "found": found.role if found else SyncRole.NONE, "expected": wanted}
        events.record(session, EventTag.SYNC_DRIFT_REPAIRED, org_id=bot.org_id, bot_id=bot.id, data=data)
    return len(drifted)


def _make_due(row: MemberSync, found: ListedMember | None, now: datetime) -> None:
    """Make a row due that the bot lists differently. Its version becomes newer than the one in the bot."""
    known = [role for role in SyncRole if found is not None and role == found.role]
    row.observed_role = known[0] if known else None if found else SyncRole.NONE
    row.observed_version = None
    if found is not None and found.version is not None and found.version >= row.desired_version:
        row.desired_version = found.version + 1
    row.state, row.attempts, row.next_attempt_at, row.changed_at = SyncState.PENDING, 0, None, now


def _admit_removals(
    session: Session, bot: Bot, sync: BotSync, unknown: Sequence[ListedMember], listed: int
) -> Sequence[ListedMember]:
    """Return the unknown members if they may be removed. Otherwise tell operators and return none."""
    if member_drift.may_remove(len(unknown), listed, sync.allowed_removals):
        sync.refused_removals = sync.allowed_removals = None
        sync.drift_count += len(unknown)
        session.flush()
        for member in unknown[:_MAX_EVENTS]:
            data = {"member": member.user_id, "found": member.role, "expected": SyncRole.NONE}
            events.record(session, EventTag.SYNC_DRIFT_REPAIRED, org_id=bot.org_id, bot_id=bot.id, data=data)
        return unknown
    if sync.refused_removals is None:
        counts = {"unknown": len(unknown), "listed": listed}
        events.record(session, EventTag.SYNC_REMOVALS_REFUSED, org_id=bot.org_id, bot_id=bot.id, data=counts)
    sync.refused_removals = len(unknown)
    session.flush()
    return []
