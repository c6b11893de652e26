"""Administration of accounts by operators: search, disable, sign out, grant operator rights.

Used by the user pages of the admin area and by `flotilla users`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, Membership, MembershipState, Org, OrgState, User, UserSession
from portal.rules.roles import Role
from portal.services import events
from portal.services.accounts import accounts, operators, sessions
from portal.services.errors import ConflictError, NotFoundError
from portal.services.paging import Page, load_page

PER_PAGE = 50


class AccountFilter(StrEnum):
    """The accounts that a list shows."""

    ALL = "all"
    OPERATORS = "operators"
    DISABLED = "disabled"


@dataclass(frozen=True)
class AccountRow:
    """One row of the list of accounts."""

    user: User
    orgs: int
    browsers: int
    """The number of active sessions."""
    last_seen_at: datetime | None


@dataclass(frozen=True)
class OrgRole:
    """An organization of a user and the user's role in it."""

    org: Org
    role: Role


def search(
    session: Session, now: datetime, text: str = "", kind: AccountFilter = AccountFilter.ALL, page: int = 1
) -> Page[AccountRow]:
    """Return one page of the accounts that match, by name, without deleted accounts.

    Args:
        session: the transaction.
        now: the current time.
        text: part of the name or email; empty for all.
        kind: the accounts to include.
        page: the page, from 1, of `PER_PAGE` accounts each; a number beyond the last page means the last page.
    """
    query = sa.select(User).where(User.deleted_at.is_(None), _is_of_kind(kind), _matches(text.strip()))
    query = query.order_by(sa.func.lower(User.name), User.id)
    return load_page(session, query, page, PER_PAGE, lambda users: _build_rows(session, users, now))


def get_user(session: Session, user_id: str) -> User:
    """Return the account with this id, even when it was deleted.

    Raises:
        NotFoundError: there is no such account.
    """
    user = session.get(User, user_id)
    if user is None:
        raise NotFoundError("Account not found.")
    return user


def get_by_email(session: Session, email: str) -> User:
    """Return the account with this email.

    Raises:
        NotFoundError: there is no such account.
    """
    user = accounts.find_by_email(session, email)
    if user is None:
        raise NotFoundError(f"No account has the email {email!r}. List all accounts with `flotilla users list`.")
    return user


def list_orgs(session: Session, user: User) -> list[OrgRole]:
    """Return the organizations of a user and the user's role in each, by name."""
    query = (
        sa.select(Org, Membership)
        .join(Membership, (Membership.org_id == Org.id) & (Membership.user_id == user.id))
        .where(Membership.state == MembershipState.ACTIVE, Org.state != OrgState.DELETED)
        .order_by(sa.func.lower(Org.name), Org.id)
    )
    return [OrgRole(org, org.role_of(membership)) for org, membership in session.execute(query)]


def disable(session: Session, user_id: str, now: datetime, *, actor: User | None) -> User:
    """Disable an account: end its sessions and refuse new ones. The user's data and memberships stay.

    Use `account_changes.disabling`, which tells the bots, too.

    Args:
        session: the transaction.
        user_id: the account.
        now: the current time.
        actor: the operator; None at the command line.

    Raises:
        NotFoundError: there is no such account.
        ConflictError: the account belongs to the last operator, or was deleted.
        ForbiddenError: the actor is no longer an operator.
    """
    user, operator_ids = _lock_user(session, user_id, actor=actor)
    if user.disabled_at is not None:
        return user
    if user.is_platform_admin:
        operators.require_another_operator(operator_ids, user)
    user.disabled_at = now
    ended = sessions.end_others(session, user.id, now)
    _record(session, EventTag.USER_DISABLED, user, actor=actor, sessions=ended)
    return user


def enable(session: Session, user_id: str, *, actor: User | None) -> User:
    """Enable a disabled account. Its user has to sign in again.

    Raises:
        NotFoundError, ConflictError, ForbiddenError: as `disable`.
    """
    user, _ = _lock_user(session, user_id, actor=actor)
    if user.disabled_at is not None:
        user.disabled_at = None
        _record(session, EventTag.USER_ENABLED, user, actor=actor)
    return user


def end_sessions(session: Session, user_id: str, now: datetime, *, actor: User | None) -> int:
    """End all sessions of a user.

    Returns:
        The number of sessions that ended.

    Raises:
        NotFoundError, ConflictError, ForbiddenError: as `disable`.
    """
    user, _ = _lock_user(session, user_id, actor=actor)
    return sessions.end_all(session, user.id, now, actor=actor)


def grant_operator(session: Session, user_id: str, now: datetime, *, actor: User | None) -> User:
    """Give a user operator rights and end their sessions, as after every change of rights.

    Raises:
        NotFoundError, ForbiddenError: as `disable`.
        ConflictError: the account is disabled or deleted.
    """
    user, _ = _lock_user(session, user_id, actor=actor)
    if user.disabled_at is not None:
        raise ConflictError(f"The account of {user.name} is disabled. Enable it first.")
    if not user.is_platform_admin:
        user.is_platform_admin = True
        sessions.end_others(session, user.id, now)
        _record(session, EventTag.USER_OPERATOR_GRANTED, user, actor=actor)
    return user


def revoke_operator(session: Session, user_id: str, now: datetime, *, actor: User | None) -> User:
    """Remove a user's operator rights and end their sessions.

    Raises:
        NotFoundError, ConflictError, ForbiddenError: as `disable`.
    """
    user, operator_ids = _lock_user(session, user_id, actor=actor)
    if user.is_platform_admin:
        operators.require_another_operator(operator_ids, user)
        user.is_platform_admin = False
        sessions.end_others(session, user.id, now)
        _record(session, EventTag.USER_OPERATOR_REVOKED, user, actor=actor)
    return user


def _lock_user(session: Session, user_id: str, *, actor: User | None) -> tuple[User, set[str]]:
    """Lock all operators and the account. Return the account and the ids of the enabled operators."""
    operator_ids = operators.lock_all(session)
    operators.require_operator(operator_ids, actor=actor)
    user = session.get(User, user_id, with_for_update=True, populate_existing=True)
    if user is None:
        raise NotFoundError("Account not found.")
    if user.deleted_at is not None:
        raise ConflictError("This account was deleted.")
    return user, operator_ids


def _record(session: Session, tag: EventTag, user: User, *, actor: User | None, **facts: Any) -> None:
    data = {"user_id": user.id, "email": user.email, **facts}
    session.flush()
    events.record(session, tag, actor=actor, data=data)


def _is_of_kind(kind: AccountFilter) -> sa.ColumnElement[bool]:
    match kind:
        case AccountFilter.ALL:
            return sa.true()
        case AccountFilter.OPERATORS:
            return User.is_platform_admin.is_(True)
        case AccountFilter.DISABLED:
            return User.disabled_at.is_not(None)


def _matches(text: str) -> sa.ColumnElement[bool]:
    if not text:
        return sa.true()
    return User.name.icontains(text, autoescape=True) | User.email.icontains(text, autoescape=True)


def _build_rows(session: Session, users: Sequence[User], now: datetime) -> list[AccountRow]:
    ids = [user.id for user in users]
    is_active_member = (Membership.user_id.in_(ids)) & (Membership.state == MembershipState.ACTIVE)
    orgs = _load_by_user(session, sa.select(Membership.user_id, sa.func.count()).where(is_active_member))
    last_seen = _load_by_user(
        session,
        sa.select(UserSession.user_id, sa.func.max(UserSession.last_seen_at)).where(UserSession.user_id.in_(ids)),
    )
    browsers = sessions.count_active(session, ids, now)
    return [
        AccountRow(user, orgs.get(user.id, 0), browsers.get(user.id, 0), last_seen.get(user.id)) for user in users
    ]


def _load_by_user(session: Session, query: sa.Select[str, Any]) -> dict[str, Any]:
    """Group a query of a user id and an aggregate by the user id. Return the aggregates by user id."""
    return dict(session.execute(query.group_by(query.selected_columns[0])).all())
