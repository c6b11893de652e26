"""Lists of bots with their member sync: desired against observed members, age, errors. Used by pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager, defer

from portal.models import (
    Bot,
    BotSync,
    MemberSync,
    Node,
    Org,
    SyncRole,
    SyncState,
)
from portal.services.orgs import sync_status
from portal.services.orgs.sync_status import BotConnection
from portal.services.paging import Page, load_page
from portal.services.syncs import bot_states, selection
from portal.services.syncs.bot_states import BotSyncState

BOTS_PER_PAGE = 50


@dataclass(frozen=True)
class SyncFilter:
    """Which bots a list shows; empty values match all bots.

    Attributes:
        state: the state of the sync.
        node_id: the node of the bot.
        org: part of the name or slug of the organization.
        text: part of the name of the bot or the organization, or of an error.
    """

    state: BotSyncState | None = None
    node_id: str = ""
    org: str = ""
    text: str = ""


@dataclass(frozen=True)
class BotSyncRow:
    """The member sync of one bot."""

    bot: Bot
    sync: BotSync | None
    """None for a bot without a row, which is not connected."""
    connection: BotConnection
    state: BotSyncState
    is_company_settled: bool
    """Whether provisioning and budget need no call."""
    is_budget_due: bool
    """Whether the bot has not confirmed its budget in the current epoch."""
    desired: int
    """Number of people that should be in the bot."""
    observed: int
    """Number of them that the bot has confirmed with their role in the current epoch."""
    pending: int
    """Number of people with a change that the bot has not confirmed, such as a removal."""
    removals: int
    """Number of the pending changes that are removals."""
    blocked: int
    oldest: datetime | None
    """When the oldest pending change was made."""
    attempts: int
    """Largest number of failed attempts for a pending change."""
    error: str | None
    """The error of provisioning, or else one of the errors of a pending change."""

    @property
    def refused_removals(self) -> int:
        """Number of unknown people whom a reconciliation did not remove from the bot, because they are too many."""
        return (self.sync.refused_removals or 0) if self.sync and self.connection.is_connected else 0

    @property
    def needs_decision(self) -> bool:
        """Whether removals were refused that no operator has allowed; an allowance counts for so many people only."""
        allowed = (self.sync.allowed_removals or 0) if self.sync else 0
        return self.refused_removals > allowed


def search_syncs(session: Session, wanted: SyncFilter, page: int = 1) -> Page[BotSyncRow]:
    """Return one page of the bots that match, those that need help first, then by the age of the oldest change.

    Args:
        session: the transaction.
        wanted: the filter.
        page: number of the page, from 1, with `BOTS_PER_PAGE` bots each.
    """
    unsynced = bot_states.select_unsynced()
    state = bot_states.build_state(unsynced)
    query = (
        _join(sa.select(Bot), unsynced)
        .where(*_list_conditions(wanted, state))
        .options(contains_eager(Bot.org), contains_eager(Bot.node), defer(Bot.spec), defer(Bot.provision_secret))
        .order_by(
            bot_states.order_by_severity(state),
            sa.func.coalesce(unsynced.c.oldest, Bot.created_at),
            Bot.name,
            Bot.id,
        )
    )
    return load_page(session, query, page, BOTS_PER_PAGE, lambda found: load_rows(session, found))


def load_for_org(session: Session, org: Org) -> list[BotSyncRow]:
    """Load the rows of the bots of an organization, by name."""
    query = sa.select(Bot).where(Bot.org_id == org.id, bot_states.is_listed()).order_by(Bot.name, Bot.id)
    return load_rows(session, session.scalars(query.options(defer(Bot.spec), defer(Bot.provision_secret))).all())


def load_rows(session: Session, bots: Sequence[Bot]) -> list[BotSyncRow]:
    """Load the rows of some bots, in their order."""
    ids = [bot.id for bot in bots]
    unsynced = bot_states.select_unsynced()
    state = bot_states.build_state(unsynced).label("state")
    settled = bot_states.is_company_settled().label("is_company_settled")
    is_budget_due = selection.is_budget_due().label("is_budget_due")
    query = _join(sa.select(Bot.id, BotSync, state, settled, is_budget_due), unsynced).where(Bot.id.in_(ids))
    found = {row.id: row for row in session.execute(query.execution_options(populate_existing=True))}
    tallies = {row.bot_id: row for row in session.execute(_select_tally().where(MemberSync.bot_id.in_(ids)))}
    connections = sync_status.load_connections(session, ids)
    return [_build_row(bot, connections[bot.id], found[bot.id], tallies.get(bot.id)) for bot in bots]


def count_by_state(session: Session, wanted: SyncFilter) -> dict[BotSyncState, int]:
    """Count the bots that match the filter, except its state, by state."""
    unsynced = bot_states.select_unsynced()
    state = bot_states.build_state(unsynced).label("sync_state")
    query = _join(sa.select(state, sa.func.count()), unsynced).where(*_list_conditions(wanted, None))
    counts = {BotSyncState(name): count for name, count in session.execute(query.group_by(state))}
    return {name: counts.get(name, 0) for name in BotSyncState}


def _select_tally() -> sa.Select[*tuple[Any, ...]]:
    """Select the numbers of each bot. Bots without rows are missing."""
    is_removal = MemberSync.desired_role == SyncRole.NONE
    is_pending = ~sync_status.is_settled()
    return (
        sa.select(
            MemberSync.bot_id,
            _count_if(~is_removal).label("desired"),
            _count_if(~is_removal & ~is_pending).label("observed"),
            _count_if(is_pending).label("pending"),
            _count_if(is_pending & is_removal).label("removals"),
            _count_if(MemberSync.state == SyncState.BLOCKED).label("blocked"),
            # What is pending because the data of the bot was replaced has no moment.
            sa.func.min(sa.case((MemberSync.state != SyncState.SYNCED, MemberSync.changed_at))).label("oldest"),
            sa.func.max(sa.case((is_pending, MemberSync.attempts), else_=0)).label("attempts"),
            sa.func.max(sa.case((is_pending, MemberSync.last_error))).label("error"),
        )
        .join(Bot, Bot.id == MemberSync.bot_id)
        .group_by(MemberSync.bot_id)
    )


def _count_if(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _join(query: sa.Select[Any], unsynced: sa.Subquery) -> sa.Select[Any]:
    return (
        query.select_from(Bot)
        .join(Bot.org)
        .join(Bot.node)
        .outerjoin(BotSync, BotSync.bot_id == Bot.id)
        .outerjoin(unsynced, unsynced.c.bot_id == Bot.id)
    )


def _list_conditions(wanted: SyncFilter, state: sa.ColumnElement[Any] | None) -> Iterable[sa.ColumnElement[bool]]:
    yield bot_states.is_listed()
    if wanted.state is not None and state is not None:
        yield state == wanted.state
    if wanted.node_id:
        yield Node.id == wanted.node_id
    if org := wanted.org.strip():
        yield Org.name.icontains(org, autoescape=True) | Org.slug.icontains(org, autoescape=True)
    if text := wanted.text.strip():
        has_error = selection.is_unsynced() & MemberSync.last_error.icontains(text, autoescape=True)
        yield (
            Bot.name.icontains(text, autoescape=True)
            | Org.name.icontains(text, autoescape=True)
            | BotSync.last_error.icontains(text, autoescape=True)
            | Bot.id.in_(sa.select(MemberSync.bot_id).where(has_error))
        )


def _build_row(
    bot: Bot, connection: BotConnection, found: sa.Row[*tuple[Any, ...]], tally: sa.Row[*tuple[Any, ...]] | None
) -> BotSyncRow:
    sync: BotSync | None = found.BotSync
    is_pending = sync is not None and connection.is_connected and sync.state is not SyncState.SYNCED
    moments = (tally.oldest if tally else None, sync.changed_at if sync and is_pending else None)
    return BotSyncRow(
        bot=bot,
        sync=sync,
        connection=connection,
        state=BotSyncState(found.state),
        is_company_settled=bool(found.is_company_settled),
        is_budget_due=bool(found.is_budget_due),
        desired=tally.desired if tally else 0,
        observed=tally.observed if tally else 0,
        pending=tally.pending if tally else 0,
        removals=tally.removals if tally else 0,
        blocked=tally.blocked if tally else 0,
        oldest=min((moment for moment in moments if moment is not None), default=None),
        attempts=max(tally.attempts if tally else 0, sync.attempts if sync and is_pending else 0),
        error=(sync.last_error if sync else None) or (tally.error if tally else None),
    )
