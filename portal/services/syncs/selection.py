"""Which bots are due for a sync, and which can be called. Used by the scheduler and the jobs that sync bots.

**Updates and epochs.** Restoring the volumes of a bot takes its members back in time, so a role counts as observed
only in the epoch that was read before the call was sent. The rollback raises the epoch in a transaction before it
touches a volume, and the update stays `running` until the old container runs again. `can_be_called` and the epoch are
read by one statement, and therefore see one state of the database:

- If the update starts after the statement, the call may reach the old or the new container, or neither. Where the
  update fails, the epoch grows, so the observation is of an older epoch and the role is sent again. Where it
  succeeds, the volume with the change stays.
- If the statement sees a running update, no call is sent. This excludes the one dangerous case: the raised epoch is
  read while the restore is still going to undo the call.

So an update may start at any moment, and has to wait for no call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from portal.database import database_now
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotSync,
    BotUpdate,
    DesiredState,
    MemberSync,
    Provisioning,
    SyncRole,
    SyncState,
)
from portal.services.syncs import claims

Condition = sa.ColumnElement[bool]


@dataclass(frozen=True)
class DueSyncs:
    """What is due on all nodes.

    Attributes:
        node_ids: nodes with due bots that answered last time, ordered.
        unanswering: whether bots are due that did not answer last time.
    """

    node_ids: Sequence[str]
    unanswering: bool


def find_due(session: Session, now: datetime) -> DueSyncs:
    """Find out on which nodes bots are due. One statement, because it reads the syncs of all bots."""
    query = sa.select(Bot.node_id, _answers()).distinct().join(BotSync, BotSync.bot_id == Bot.id)
    found = session.execute(query.where(_is_due(session, now)).order_by(Bot.node_id)).all()
    return DueSyncs([node_id for node_id, answers in found if answers], not all(answers for _, answers in found))


def list_due_bots(session: Session, now: datetime, node_id: str, limit: int) -> Sequence[str]:
    """Return the ids of due bots of a node that answered last time: first those with removals, then with changes.

    Args:
        session: any session.
        now: the current moment.
        node_id: the node.
        limit: largest number of bots.
    """
    return _list_due(session, now, limit, Bot.node_id == node_id, _answers())


def list_due_unanswering(session: Session, now: datetime, limit: int) -> Sequence[str]:
    """Return the ids of due bots of all nodes that did not answer last time."""
    return _list_due(session, now, limit, ~_answers())


def list_addresses(session: Session) -> dict[str, str]:
    """Return the addresses of all bots that can be called, by the name of the bot and its subdomain."""
    query = sa.select(Bot.name, Bot.subdomain, Bot.address).join(BotSync, BotSync.bot_id == Bot.id)
    found = session.execute(query.where(can_be_called()).order_by(Bot.name, Bot.subdomain))
    return {f"{name} ({subdomain})": str(address) for name, subdomain, address in found}


def can_be_called() -> Condition:
    """Return the condition for bots that can be called: they run, are healthy, and are not being updated.

    A bot that needs attention is not called, because an operator may be restoring its data.
    """
    # An index finds the few running updates once, and not for each bot.
    updating = sa.select(BotUpdate.bot_id).where(BotUpdate.is_running())
    return sa.and_(
        Bot.phase == BotPhase.ACTIVE,
        BotSync.provisioning != Provisioning.OFF,
        Bot.desired_state == DesiredState.RUNNING,
        Bot.state == BotState.RUNNING,
        Bot.address.is_not(None),
        Bot.needs_attention.is_(None),
        Bot.id.not_in(updating),
    )


def is_provisioned() -> Condition:
    """Return the condition for bots that know their company, so that members can be sent."""
    in_this_epoch = sa.or_(BotSync.provisioning == Provisioning.LINKED, BotSync.provisioned_epoch == Bot.epoch)
    return sa.and_(Bot.company_id.is_not(None), in_this_epoch)


def is_budget_due() -> Condition:
    """Return the condition for bots whose budget differs from the one that was observed in this epoch."""
    differs = sa.or_(
        BotSync.observed_budget_cents.is_distinct_from(BotSync.budget_cents),
        BotSync.observed_per_agent_budget_cents.is_distinct_from(BotSync.per_agent_budget_cents),
        BotSync.observed_budget_epoch.is_distinct_from(Bot.epoch),
    )
    return sa.and_(BotSync.budget_cents.is_not(None), differs)


def is_reconciliation_due(now: datetime) -> Condition:
    """Return the condition for bots whose members have to be compared or sent again."""
    return sa.or_(
        BotSync.next_reconcile_at.is_(None),
        BotSync.next_reconcile_at <= now,
        BotSync.reconciled_epoch.is_distinct_from(Bot.epoch),
    )


def is_member_due(now: datetime) -> Condition:
    """Return the condition for rows of `MemberSync` that have to be sent to their bot, whose row is joined."""
    unknown = sa.or_(
        MemberSync.state != SyncState.SYNCED,
        MemberSync.observed_epoch.is_distinct_from(Bot.epoch),
        MemberSync.observed_at.is_(None) & BotSync.resend_before.is_not(None),
        MemberSync.observed_at < BotSync.resend_before,
    )
    return sa.and_(unknown, is_time_for(MemberSync.next_attempt_at, now))


def is_unsynced() -> Condition:
    """Return the condition for rows of `MemberSync` that are not marked as synced, which an index finds."""
    return MemberSync.state.in_((SyncState.PENDING, SyncState.BLOCKED))


def is_time_for(
    moment: sa.ColumnElement[datetime | None] | InstrumentedAttribute[datetime | None], now: datetime
) -> Condition:
    """Return the condition that a moment has passed or is not set."""
    return sa.or_(moment.is_(None), moment <= now)


def _list_due(session: Session, now: datetime, limit: int, *conditions: Condition) -> Sequence[str]:
    removal = _has_unsynced(now, MemberSync.desired_role == SyncRole.NONE)
    urgency = sa.case((removal, 0), (_has_unsynced(now), 1), else_=2)
    query = sa.select(Bot.id).join(BotSync, BotSync.bot_id == Bot.id).where(_is_due(session, now), *conditions)
    return session.scalars(query.order_by(urgency, BotSync.next_reconcile_at, Bot.id).limit(limit)).all()


def _is_due(session: Session, now: datetime) -> Condition:
    is_company_due = sa.and_(
        is_time_for(BotSync.next_attempt_at, now),
        sa.or_(~is_provisioned(), is_budget_due(), is_reconciliation_due(now)),
    )
    # Only bots in a new epoch can have due rows that are marked as synced, so only for these all rows are read.
    is_in_new_epoch = BotSync.reconciled_epoch.is_distinct_from(Bot.epoch)
    of_bot = sa.exists().where(MemberSync.bot_id == Bot.id, is_member_due(now))
    are_members_due = sa.and_(is_provisioned(), sa.or_(_has_unsynced(now), sa.and_(is_in_new_epoch, of_bot)))
    return sa.and_(
        can_be_called(),
        claims.is_free(database_now(session)),
        is_time_for(BotSync.next_call_at, now),
        sa.or_(is_company_due, are_members_due),
    )


def _has_unsynced(now: datetime, *conditions: Condition) -> Condition:
    # Few rows are not synced. The index on the state finds them without reading the rows of all bots.
    unsynced = sa.select(MemberSync.bot_id).where(
        is_unsynced(),
        is_time_for(MemberSync.next_attempt_at, now),
        *conditions,
    )
    return Bot.id.in_(unsynced)


def _answers() -> Condition:
    return BotSync.unanswered_calls == 0
