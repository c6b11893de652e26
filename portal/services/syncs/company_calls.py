"""Calls about companies: provisioning and budget, built from the rows at the moment of sending.

Used by `daemon.provision.bot_sync`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotSync, BotTemplate, EventTag, MemberSync, Provisioning, SyncState, update_where
from portal.services import events
from portal.services.syncs import claims, failures
from portal.services.syncs.claims import Claim
from portal.services.syncs.endpoints import Endpoint, read_endpoint
from portal.services.syncs.failures import Failure, FailureKind
from portal.services.syncs.selection import can_be_called, is_budget_due, is_provisioned, is_time_for


@dataclass(frozen=True)
class ProvisionCall:
    """A call that creates the company of an organization in its bot, with the owner as administrator.

    Attributes:
        endpoint: where to send the call, and the epoch before it is sent.
        tenant: content of the call. It contains a secret.
        budget_cents: the budget in the content.
    """

    endpoint: Endpoint
    tenant: Mapping[str, Any] = field(repr=False)
    budget_cents: int


@dataclass(frozen=True)
class BudgetCall:
    """A call that sets the budget of a company."""

    endpoint: Endpoint
    company_id: str
    cents: int
    per_agent_cents: int | None


def next_provision_call(session: Session, claim: Claim, now: datetime) -> ProvisionCall | None:
    """Build the provision call, or return None if none is due or the bot cannot be called now.

    A new epoch needs another call, because the data of the bot may be older than the company. It changes nothing
    where the company exists.

    Raises:
        ClaimLost: another worker has claimed the bot.
    """
    is_due = (BotSync.provisioning == Provisioning.MANAGED) & ~is_provisioned()
    found = _load(session, claim, now, is_due)
    if found is None:
        return None
    bot, sync = found
    template = session.get_one(BotTemplate, 1)
    budget = template.budget_cents if sync.budget_cents is None else sync.budget_cents
    return ProvisionCall(read_endpoint(bot), _describe_tenant(bot, template, budget), budget)


def record_provisioned(session: Session, claim: Claim, call: ProvisionCall, company_id: str, now: datetime) -> None:
    """Record the bot's id of the company. If it is another one than before, all observed roles are unknown.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    claims.lock_bot(session, claim.bot_id)
    claims.renew(session, claim)
    still_managed = (BotSync.bot_id == claim.bot_id, BotSync.provisioning == Provisioning.MANAGED)
    observed = {
        "provisioned_epoch": call.endpoint.epoch,
        "observed_budget_cents": call.budget_cents,
        "observed_per_agent_budget_cents": None,  # provisioning sends none
        "observed_budget_epoch": call.endpoint.epoch,
    }
    if update_where(session, BotSync, *still_managed, **observed, **_succeeded(now)) == 0:
        return  # an operator has linked the bot to another company
    if company_id == call.endpoint.company_id:
        return
    update_where(session, Bot, Bot.id == claim.bot_id, company_id=company_id)
    unknown = {"state": SyncState.PENDING, "observed_epoch": None, "observed_role": None, "observed_version": None}
    claims.update_members(session, MemberSync.bot_id == claim.bot_id, **unknown)
    org_id = session.scalars(sa.select(Bot.org_id).where(Bot.id == claim.bot_id)).one()
    data = {"company": company_id}
    events.record(session, EventTag.BOT_PROVISIONED, org_id=org_id, bot_id=claim.bot_id, data=data)


def next_budget_call(session: Session, claim: Claim, now: datetime) -> BudgetCall | None:
    """Build the budget call, or return None if none is due or the bot cannot be called now.

    Raises:
        ClaimLost: another worker has claimed the bot.
    """
    found = _load(session, claim, now, is_provisioned() & is_budget_due())
    if found is None:
        return None
    bot, sync = found
    return BudgetCall(
        read_endpoint(bot), str(bot.company_id), int(sync.budget_cents or 0), sync.per_agent_budget_cents
    )


def record_budget(session: Session, claim: Claim, call: BudgetCall, now: datetime) -> None:
    """Record the budget that the bot has now. If an operator changed it since, it stays due.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    claims.renew(session, claim)
    observed = {
        "observed_budget_cents": call.cents,
        "observed_per_agent_budget_cents": call.per_agent_cents,
        "observed_budget_epoch": call.endpoint.epoch,
    }
    update_where(session, BotSync, BotSync.bot_id == claim.bot_id, **observed, **_succeeded(now))


def record_failure(session: Session, claim: Claim, failure: Failure, now: datetime) -> None:
    """Record that a call about the company failed: provisioning, budget or the list of members.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    claims.renew(session, claim)
    if failure.kind is FailureKind.REFUSED:
        failures.report_blocked(session, claim.bot_id, failure.reason)
    query = sa.select(BotSync.attempts, BotSync.state).where(BotSync.bot_id == claim.bot_id)
    attempts, state = session.execute(query).one()
    values = failures.next_attempt_values(failure, attempts, now)
    if state is SyncState.SYNCED:
        values["changed_at"] = now  # pending since this failure
    update_where(session, BotSync, BotSync.bot_id == claim.bot_id, **values)


def _load(
    session: Session, claim: Claim, now: datetime, is_due: sa.ColumnElement[bool]
) -> tuple[Bot, BotSync] | None:
    claims.renew(session, claim)
    query = sa.select(Bot, BotSync).join(BotSync, BotSync.bot_id == Bot.id)
    is_due_now = (Bot.id == claim.bot_id, can_be_called(), is_due, is_time_for(BotSync.next_attempt_at, now))
    found = session.execute(query.where(*is_due_now).options(*Endpoint.LOADED)).one_or_none()
    if found is None:
        return None
    bot, sync = found
    return bot, sync


def _describe_tenant(bot: Bot, template: BotTemplate, budget_cents: int) -> dict[str, Any]:
    owner = bot.org.owner
    return {
        "tenantId": bot.org_id,
        "tenantName": bot.org.name,
        "gatewayUrl": template.gateway_url,
        "apiKey": template.api_key,
        "budgetCents": budget_cents,
        "adminUser": {"id": owner.id, "email": owner.email, "name": owner.name},
        "agents": template.agents,
        "extra": template.extra,
    }


def _succeeded(now: datetime) -> dict[str, Any]:
    return {"state": SyncState.SYNCED, "attempts": 0, "next_attempt_at": None, "last_error": None, "changed_at": now}
