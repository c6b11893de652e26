"""Disabling and enabling of accounts, which the user's bots also receive. Used by pages and commands of operators.

A disabled account is removed from all bots, because a bot may have sessions and keys of its users that the portal
cannot end. The memberships stay, so that the bots get them again when the account is enabled.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from portal.models import User
from portal.services.accounts import administration
from portal.services.errors import ConflictError
from portal.services.orgs import member_sync, memberships, orgs


def disable_account(session: Session, user_id: str, now: datetime, *, actor: User | None) -> User:
    """Disable an account, end its sessions, and remove the user from all bots.

    Args:
        session: the transaction.
        user_id: the account.
        now: the current time.
        actor: the operator; None at the command line.

    Raises:
        NotFoundError: there is no such account.
        ConflictError: the account belongs to the last operator, was deleted, or joined an organization just now.
        ForbiddenError: the actor is no longer an operator.
    """
    locked = _lock_orgs(session, user_id)
    user = administration.disable(session, user_id, now, actor=actor)
    _sync_to_bots(session, user, locked, now)
    return user


def enable_account(session: Session, user_id: str, now: datetime, *, actor: User | None) -> User:
    """Enable a disabled account, and add the user to the bots again. The user has to sign in again.

    Raises:
        NotFoundError, ConflictError, ForbiddenError: as `disable_account`.
    """
    locked = _lock_orgs(session, user_id)
    user = administration.enable(session, user_id, actor=actor)
    _sync_to_bots(session, user, locked, now)
    return user


def _lock_orgs(session: Session, user_id: str) -> set[str]:
    """Lock the organizations before the account, as changes of memberships do. Return their ids."""
    return {orgs.lock_org(session, org).id for org in memberships.list_orgs(session, user_id)}


def _sync_to_bots(session: Session, user: User, locked: set[str], now: datetime) -> None:
    member_sync.lock_rows(session, user.id)
    for org in memberships.list_orgs(session, user.id):
        if org.id not in locked:
            raise ConflictError(f"{user.name} has just joined another organization. Try again.")
        membership = memberships.find_membership(session, org, user)
        if membership is not None:
            member_sync.set_desired_role(session, org, membership, now)
