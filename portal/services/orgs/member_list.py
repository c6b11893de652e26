"""The people of an organization as its team page lists them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from portal.models import Bot, Membership, MembershipState, MemberSync, Org, SyncRole, SyncState, User
from portal.policy import Role
from portal.services.paging import Page, load_page

PER_PAGE = 25


class SyncProgress(StrEnum):
    """How far a membership has got into the organization's bots."""

    BLOCKED = "blocked"
    PROVISIONING = "provisioning"
    CHANGING = "changing"
    REMOVING = "removing"
    SYNCED = "synced"


@dataclass(frozen=True)
class MemberSyncStatus:
    """The least advanced of a member's bots."""

    progress: SyncProgress
    since: datetime
    error: str | None


@dataclass(frozen=True)
class MemberRow:
    """One line of the list."""

    membership: Membership
    role: Role
    sync: MemberSyncStatus | None
    """None while the organization has no bot."""

    @property
    def user(self) -> User:
        """Who it is."""
        return self.membership.user


def search_members(session: Session, org: Org, text: str = "", page: int = 1) -> Page[MemberRow]:
    """Look for members, by name.

    Args:
        session: the transaction.
        org: the organization.
        text: part of the name or address; empty for all.
        page: from 1, of `PER_PAGE` members each; beyond the last one it is the last.
    """
    query = (
        _active(org)
        .where(_matching(text.strip()))
        .options(contains_eager(Membership.user))
        .order_by(sa.func.lower(User.name), Membership.id)
        .execution_options(populate_existing=True)
    )
    return load_page(session, query, page, PER_PAGE, lambda found: _members(session, org, found))


def find_member(session: Session, org: Org, membership_id: str) -> MemberRow | None:
    """One line of the list as it is now; None when that person does not belong to the organization (any more)."""
    query = _active(org).where(Membership.id == membership_id).options(contains_eager(Membership.user))
    found = session.scalars(query.execution_options(populate_existing=True)).all()
    return next(iter(_members(session, org, found)), None)


def list_people(session: Session, org: Org) -> Sequence[User]:
    """All people of the organization, by name."""
    active = (Membership.org_id == org.id) & (Membership.state == MembershipState.ACTIVE)
    query = sa.select(User).join(Membership, Membership.user_id == User.id).where(active)
    return session.scalars(query.order_by(sa.func.lower(User.name), User.id)).all()


def _active(org: Org) -> sa.Select[Membership]:
    return (
        sa.select(Membership)
        .join(Membership.user)
        .where(Membership.org_id == org.id, Membership.state == MembershipState.ACTIVE)
    )


def _matching(text: str) -> sa.ColumnElement[bool]:
    if not text:
        return sa.true()
    return User.name.icontains(text, autoescape=True) | User.email.icontains(text, autoescape=True)


def _members(session: Session, org: Org, found: Iterable[Membership]) -> list[MemberRow]:
    rows = list(found)
    syncs = _syncs(session, org, [row.user_id for row in rows])
    return [
        MemberRow(
            membership=row,
            role=Role.OWNER if row.user_id == org.owner_id else Role(row.role),
            sync=syncs.get(row.user_id),
        )
        for row in rows
    ]


def _syncs(session: Session, org: Org, user_ids: Sequence[str]) -> dict[str, MemberSyncStatus]:
    query = (
        sa.select(MemberSync, Bot.epoch)
        .join(Bot, Bot.id == MemberSync.bot_id)
        .where(Bot.org_id == org.id, MemberSync.user_id.in_(user_ids))
    )
    found: dict[str, MemberSyncStatus] = {}
    order = list(SyncProgress)
    for row, epoch in session.execute(query):
        sync = MemberSyncStatus(_progress(row, epoch), row.changed_at, row.last_error)
        known = found.get(row.user_id)
        if known is None or order.index(sync.progress) < order.index(known.progress):
            found[row.user_id] = sync
    return found


def _progress(row: MemberSync, epoch: int) -> SyncProgress:
    if row.state is SyncState.BLOCKED:
        return SyncProgress.BLOCKED
    # What was observed before the bot's data went back in time may not be true any more.
    if row.state is SyncState.SYNCED and row.observed_epoch == epoch:
        return SyncProgress.SYNCED
    if row.desired_role is SyncRole.NONE:
        return SyncProgress.REMOVING
    return SyncProgress.PROVISIONING if row.observed_role in {None, SyncRole.NONE} else SyncProgress.CHANGING
