"""State of the member sync of a whole bot, as expressions for queries. Used by `sync_list` and the overview.

The expressions read few rows of settled people: an index leads to the others, and only in a bot with a new epoch can
roles that are marked as synced be unknown.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, BotSync, MemberSync, Provisioning, SyncState
from portal.services.orgs import sync_status
from portal.services.syncs import selection


class BotSyncState(StrEnum):
    """State of the member sync of a bot. What needs an operator comes first."""

    BLOCKED = "blocked"
    """The bot refused provisioning or a person, or a reconciliation refused to remove too many members."""
    PENDING = "pending"
    WAITING = "waiting"
    """Changes are pending, and the bot cannot be called at the moment."""
    SYNCED = "synced"
    NOT_CONNECTED = "not_connected"


def count_blocked(session: Session) -> int:
    """Count the bots in state `BLOCKED`."""
    has_blocked = Bot.id.in_(sa.select(MemberSync.bot_id).where(MemberSync.state == SyncState.BLOCKED))
    query = (
        sa.select(sa.func.count())
        .select_from(Bot)
        .join(BotSync, BotSync.bot_id == Bot.id)
        .where(is_listed(), BotSync.provisioning != Provisioning.OFF, _is_blocked() | has_blocked)
    )
    return session.scalar(query) or 0


def is_listed() -> sa.ColumnElement[bool]:
    """Return the condition for bots that exist, or are being created or removed."""
    return Bot.phase != BotPhase.REMOVED


def is_company_settled() -> sa.ColumnElement[bool]:
    """Return the condition that provisioning and budget of a bot need no call."""
    return (BotSync.state == SyncState.SYNCED) & selection.is_provisioned() & ~selection.is_budget_due()


def select_unsynced() -> sa.Subquery:
    """Return a subquery of the bots with rows that are not marked as synced: `bot_id`, `blocked`, `oldest`."""
    is_blocked = sa.case((MemberSync.state == SyncState.BLOCKED, 1), else_=0)
    return (
        sa.select(
            MemberSync.bot_id,
            sa.func.max(is_blocked).label("blocked"),
            sa.func.min(MemberSync.changed_at).label("oldest"),
        )
        .where(selection.is_unsynced())
        .group_by(MemberSync.bot_id)
        .subquery("unsynced")
    )


def build_state(unsynced: sa.Subquery) -> sa.ColumnElement[Any]:
    """Return the state of a bot.

    Args:
        unsynced: `select_unsynced()`, which the query joins to `Bot`, with `BotSync`, both by outer joins.
    """
    in_new_epoch = BotSync.reconciled_epoch.is_distinct_from(Bot.epoch)
    has_unknown = sa.exists().where(MemberSync.bot_id == Bot.id, ~sync_status.is_settled())
    has_pending = unsynced.c.bot_id.is_not(None) | (in_new_epoch & has_unknown)
    return sa.case(
        (sa.func.coalesce(BotSync.provisioning, Provisioning.OFF) == Provisioning.OFF, BotSyncState.NOT_CONNECTED),
        (_is_blocked() | (unsynced.c.blocked > 0), BotSyncState.BLOCKED),
        (~has_pending & is_company_settled(), BotSyncState.SYNCED),
        (selection.can_be_called(), BotSyncState.PENDING),
        else_=BotSyncState.WAITING,
    )


def order_by_severity(state: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return the position of a state, from the one that most needs help."""
    return sa.case({name: position for position, name in enumerate(BotSyncState)}, value=state)


def _is_blocked() -> sa.ColumnElement[bool]:
    return (BotSync.state == SyncState.BLOCKED) | BotSync.refused_removals.is_not(None)
