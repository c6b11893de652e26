"""Lists of an organization's members, with role and sync status. Used by the team page, settings and deletion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from portal.models import Bot, Membership, MembershipState, MemberSync, Org, SyncRole, SyncState, User
from portal.rules.roles import Role
from portal.services.paging import Page, load_page

MEMBERS_PER_PAGE = 25


class SyncProgress(StrEnum):
    """How far a membership has been carried into the organization's bots; the least advanced first."""

    BLOCKED = "blocked"
    PROVISIONING = "provisioning"
    CHANGING = "changing"
    REMOVING = "removing"
    SYNCED = "synced"


@dataclass(frozen=True)
class MemberSyncStatus:
    """The sync status of a member in the least advanced bot."""

    progress: SyncProgress
    since: datetime
    error: str | None


@dataclass(frozen=True)
class MemberRow:
    """One row of the member list.

    Attributes:
        membership: the membership.
        role: the effective role.
        sync: the sync status; None while the organization has no bot.
    """

    membership: Membership
    role: Role
    sync: MemberSyncStatus | None

    @property
    def user(self) -> User:
        """The user of the membership."""
        return self.membership.user


def search_members(session: Session, org: Org, text: str = "", page: int = 1) -> Page[MemberRow]:
    """List members by name, one page at a time.

    Args:
        session: the transaction.
        org: the organization.
        text: a part of the name or email address; empty for all members.
        page: the page number, from 1; a number beyond the last page gives the last page.
    """
    query = (
        _select_active(org)
        .where(_matches(text.strip()))
        .options(contains_eager(Membership.user))
        .order_by(sa.func.lower(User.name), Membership.id)
        .execution_options(populate_existing=True)
    )
    return load_page(session, query, page, MEMBERS_PER_PAGE, lambda found: _build_rows(session, org, found))


def find_member(session: Session, org: Org, membership_id: str) -> MemberRow | None:
    """Read the current row of a member, or None where the organization has no such active member."""
    query = _select_active(org).where(Membership.id == membership_id).options(contains_eager(Membership.user))
    found = session.scalars(query.execution_options(populate_existing=True)).all()
    return next(iter(_build_rows(session, org, found)), None)


def list_people(session: Session, org: Org) -> Sequence[User]:
    """List the users who are active members, by name."""
    active = (Membership.org_id == org.id) & (Membership.state == MembershipState.ACTIVE)
    query = sa.select(User).join(Membership, Membership.user_id == User.id).where(active)
    return session.scalars(query.order_by(sa.func.lower(User.name), User.id)).all()


def _select_active(org: Org) -> sa.Select[Membership]:
    return (
        sa.select(Membership)
        .join(Membership.user)
        .where(Membership.org_id == org.id, Membership.state == MembershipState.ACTIVE)
    )


def _matches(text: str) -> sa.ColumnElement[bool]:
    if not text:
        return sa.true()
    return User.name.icontains(text, autoescape=True) | User.email.icontains(text, autoescape=True)


def _build_rows(session: Session, org: Org, found: Iterable[Membership]) -> list[MemberRow]:
    memberships = list(found)
    statuses = _load_sync_statuses(session, org, [membership.user_id for membership in memberships])
    return [
        MemberRow(
            membership=membership,
            role=org.role_of(membership),
            sync=statuses.get(membership.user_id),
        )
        for membership in memberships
    ]


def _load_sync_statuses(session: Session, org: Org, user_ids: Sequence[str]) -> dict[str, MemberSyncStatus]:
    query = (
        sa.select(MemberSync, Bot.epoch)
        .join(Bot, Bot.id == MemberSync.bot_id)
        .where(Bot.org_id == org.id, MemberSync.user_id.in_(user_ids))
    )
    statuses: dict[str, MemberSyncStatus] = {}
    order = list(SyncProgress)
    for row, epoch in session.execute(query):
        status = MemberSyncStatus(_measure_progress(row, epoch), row.changed_at, row.last_error)
        least = statuses.get(row.user_id)
        if least is None or order.index(status.progress) < order.index(least.progress):
            statuses[row.user_id] = status
    return statuses


def _measure_progress(row: MemberSync, epoch: int) -> SyncProgress:
    if row.state is SyncState.BLOCKED:
        return SyncProgress.BLOCKED
    # A role observed in an older epoch is unknown: the bot's data has been replaced since.
    if row.state is SyncState.SYNCED and row.observed_epoch == epoch:
        return SyncProgress.SYNCED
    if row.desired_role is SyncRole.NONE:
        # The bot does not know a user whose first desired role is none, so there is nothing to remove.
        return SyncProgress.SYNCED if row.desired_version == 1 else SyncProgress.REMOVING
    return SyncProgress.PROVISIONING if row.observed_role in {None, SyncRole.NONE} else SyncProgress.CHANGING
