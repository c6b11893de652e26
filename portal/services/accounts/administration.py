"""People's accounts as operators look after them: finding, disabling, signing out, making operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, Membership, MembershipState, Org, OrgState, User, UserSession
from portal.policy import Role
from portal.services import events
from portal.services.accounts import accounts, operators, sessions
from portal.services.errors import ConflictError, NotFoundError
from portal.services.paging import Page, load_page

PER_PAGE = 50


class AccountFilter(StrEnum):
    """Which accounts to list."""

    ALL = "all"
    OPERATORS = "operators"
    DISABLED = "disabled"


@dataclass(frozen=True)
class AccountRow:
    """One account of a list."""

    user: User
    orgs: int
    browsers: int
    """So many are signed in now."""
    last_seen_at: datetime | None


@dataclass(frozen=True)
class OrgRole:
    """An organization somebody belongs to."""

    org: Org
    role: Role


def search(
    session: Session, now: datetime, text: str = "", kind: AccountFilter = AccountFilter.ALL, page: int = 1
) -> Page[AccountRow]:
    """Look for people, by name; deleted accounts are not among them.

    Args:
        session: the transaction.
        now: the present.
        text: part of the name or address; empty for all.
        kind: which accounts.
        page: from 1, of `PER_PAGE` accounts each; beyond the last one it is the last.
    """
    query = sa.select(User).where(User.deleted_at.is_(None), _of_kind(kind), _matching(text.strip()))
    query = query.order_by(sa.func.lower(User.name), User.id)
    return load_page(session, query, page, PER_PAGE, lambda found: _lines(session, found, now))


def get_user(session: Session, user_id: str) -> User:
    """The account with that id, deleted ones too.

    Raises:
        NotFoundError: there is none.
    """
    user = session.get(User, user_id)
    if user is None:
        raise NotFoundError("There is no such account.")
    return user


def get_by_email(session: Session, email: str) -> User:
    """The account that somebody signs in to with that address.

    Raises:
        NotFoundError: there is none.
    """
    user = accounts.find_by_email(session, email)
    if user is None:
        raise NotFoundError(f"Nobody has the address {email!r}; `flotilla users list` shows all.")
    return user


def list_orgs(session: Session, user: User) -> list[OrgRole]:
    """The organizations somebody belongs to, by name."""
    query = (
        sa.select(Org, Membership)
        .join(Membership, (Membership.org_id == Org.id) & (Membership.user_id == user.id))
        .where(Membership.state == MembershipState.ACTIVE, Org.state != OrgState.DELETED)
        .order_by(sa.func.lower(Org.name), Org.id)
    )
    return [
        OrgRole(org, Role.OWNER if org.owner_id == user.id else Role(row.role)) for org, row in session.execute(query)
    ]


def disable(session: Session, user_id: str, now: datetime, *, actor: User | None) -> User:
    """Keep somebody out: every session ends at once, and no new one begins. Nothing of theirs is lost.

    Args:
        session: the transaction.
        user_id: whose account it is.
        now: the present.
        actor: the operator; None at the command line.

    Raises:
        NotFoundError: there is no such account.
        ConflictError: it is the last operator's, or was deleted.
        ForbiddenError: the actor is no operator any more.
    """
    user, running = _locked(session, user_id, actor)
    if user.disabled_at is not None:
        return user
    if user.is_platform_admin:
        operators.require_another_operator(running, user)
    user.disabled_at = now
    ended = sessions.end_others(session, user.id, now)
    _record(session, EventTag.USER_DISABLED, user, actor, sessions=ended)
    return user


def enable(session: Session, user_id: str, *, actor: User | None) -> User:
    """Let somebody in again, who has to sign in anew.

    Raises:
        NotFoundError, ConflictError, ForbiddenError: as `disable`.
    """
    user, _ = _locked(session, user_id, actor)
    if user.disabled_at is not None:
        user.disabled_at = None
        _record(session, EventTag.USER_ENABLED, user, actor)
    return user


def end_sessions(session: Session, user_id: str, now: datetime, *, actor: User | None) -> int:
    """Sign somebody out everywhere.

    Returns:
        How many browsers were signed out.

    Raises:
        NotFoundError, ConflictError, ForbiddenError: as `disable`.
    """
    user, _ = _locked(session, user_id, actor)
    return sessions.end_all(session, user.id, now, actor=actor)


def grant_operator(session: Session, user_id: str, now: datetime, *, actor: User | None) -> User:
    """Make somebody an operator, who has to sign in anew, as after every change of what an account may do.

    Raises:
        NotFoundError, ForbiddenError: as `disable`.
        ConflictError: the account is disabled or deleted.
    """
    user, _ = _locked(session, user_id, actor)
    if user.disabled_at is not None:
        raise ConflictError(f"The account of {user.name} is disabled. Enable it first.")
    if not user.is_platform_admin:
        user.is_platform_admin = True
        sessions.end_others(session, user.id, now)
        _record(session, EventTag.USER_OPERATOR_GRANTED, user, actor)
    return user


def revoke_operator(session: Session, user_id: str, now: datetime, *, actor: User | None) -> User:
    """Take the operators' rights from somebody, who has to sign in anew.

    Raises:
        NotFoundError, ConflictError, ForbiddenError: as `disable`.
    """
    user, running = _locked(session, user_id, actor)
    if user.is_platform_admin:
        operators.require_another_operator(running, user)
        user.is_platform_admin = False
        sessions.end_others(session, user.id, now)
        _record(session, EventTag.USER_OPERATOR_REVOKED, user, actor)
    return user


def _locked(session: Session, user_id: str, actor: User | None) -> tuple[User, set[str]]:
    """The account as it is now, and who runs the platform, both locked."""
    running = operators.lock_all(session)
    operators.require_operator(running, actor)
    user = session.get(User, user_id, with_for_update=True, populate_existing=True)
    if user is None:
        raise NotFoundError("There is no such account.")
    if user.deleted_at is not None:
        raise ConflictError("This account was deleted.")
    return user, running


def _record(session: Session, tag: EventTag, user: User, actor: User | None, **facts: Any) -> None:
    data = {"user_id": user.id, "email": user.email, **facts}
    session.flush()
    events.record(session, tag, actor=actor, data=data)


def _of_kind(kind: AccountFilter) -> sa.ColumnElement[bool]:
    match kind:
        case AccountFilter.ALL:
            return sa.true()
        case AccountFilter.OPERATORS:
            return User.is_platform_admin.is_(True)
        case AccountFilter.DISABLED:
            return User.disabled_at.is_not(None)


def _matching(text: str) -> sa.ColumnElement[bool]:
    if not text:
        return sa.true()
    return User.name.icontains(text, autoescape=True) | User.email.icontains(text, autoescape=True)


def _lines(session: Session, found: Sequence[User], now: datetime) -> list[AccountRow]:
    ids = [user.id for user in found]
    belongs = (Membership.user_id.in_(ids)) & (Membership.state == MembershipState.ACTIVE)
    orgs = _by_user(session, sa.select(Membership.user_id, sa.func.count()).where(belongs))
    seen = sa.select(UserSession.user_id, sa.func.max(UserSession.last_seen_at)).where(UserSession.user_id.in_(ids))
    last = _by_user(session, seen)
    browsers = sessions.count_active(session, ids, now)
    return [AccountRow(user, orgs.get(user.id, 0), browsers.get(user.id, 0), last.get(user.id)) for user in found]


def _by_user(session: Session, query: sa.Select[str, Any]) -> dict[str, Any]:
    return dict(session.execute(query.group_by(query.selected_columns[0])).all())
