"""Lists of an organization's members, with role and sync status. Used by the team page, settings and deletion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from portal.models import Bot, Membership, MembershipState, MemberSync, Org, User
from portal.rules.roles import Role
from portal.services.orgs import sync_status
from portal.services.orgs.sync_status import MemberSyncStatus
from portal.services.paging import Page, load_page

MEMBERS_PER_PAGE = 25


@dataclass(frozen=True)
class MemberRow:
    """One row of the member list.

    Attributes:
        membership: the membership.
        role: the effective role.
        syncs: the sync status in each bot, by the name of the bot; empty while the organization has no bot.
    """

    membership: Membership
    role: Role
    syncs: Sequence[MemberSyncStatus]

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
    return next(iter(find_members(session, org, [membership_id])), None)


def find_members(session: Session, org: Org, membership_ids: Sequence[str]) -> list[MemberRow]:
    """Read the current rows of some members. Ids of other organizations and of removed members are ignored.

    Args:
        session: the transaction.
        org: the organization.
        membership_ids: the memberships; only the first `MEMBERS_PER_PAGE` are read.
    """
    wanted = Membership.id.in_(membership_ids[:MEMBERS_PER_PAGE])
    query = _select_active(org).where(wanted).options(contains_eager(Membership.user))
    return _build_rows(session, org, session.scalars(query.execution_options(populate_existing=True)).all())


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
    user_ids = [membership.user_id for membership in memberships]
    statuses = sync_status.load_statuses(session, Bot.org_id == org.id, MemberSync.user_id.in_(user_ids))
    return [
        MemberRow(membership, org.role_of(membership), statuses.get(membership.user_id, []))
        for membership in memberships
    ]
