"""Deleting one's account: memberships end, and the row that others point at keeps nothing of the person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, OneTimeToken, Org, OrgState, UpdateNotice, User, UserSession
from portal.services import events
from portal.services.accounts import accounts, operators
from portal.services.accounts.accounts import Credentials
from portal.services.errors import ConflictError
from portal.services.orgs import memberships

NAME = "deleted user"
"""How a deleted account shows wherever it still does."""


def list_owned_orgs(session: Session, user_id: str) -> Sequence[Org]:
    """The organizations that keep a user from leaving, by name; among them those that could still be restored."""
    statement = sa.select(Org).where(Org.owner_id == user_id, Org.state != OrgState.DELETED)
    return session.scalars(statement.order_by(Org.name)).all()


def delete_account(session: Session, proven: Credentials, now: datetime) -> None:
    """End the user's memberships and sessions, and empty the account.

    Args:
        session: the transaction.
        proven: of whose account it is; the password was asked for again.
        now: the present.

    Raises:
        ConflictError: the user owns organizations, which it names, or is the last operator; or the password was
            changed meanwhile.
    """
    user = session.get_one(User, proven.user_id)
    _require_no_orgs(session, user)
    left = memberships.list_orgs(session, user.id)
    for org in left:
        memberships.leave_org(session, org, user, now)
    if user.is_platform_admin:
        operators.require_another_operator(operators.lock_all(session), user)
    # Whoever gives this user something at this moment waits for this lock, or had it before and is seen now.
    user = session.get_one(User, proven.user_id, with_for_update=True, populate_existing=True)
    accounts.require_current_credentials(session, proven)
    _require_no_orgs(session, user)
    if memberships.list_orgs(session, user.id):
        raise ConflictError("You have just joined another organization. Look at your account again, then decide.")
    _empty(session, user, now)
    events.record(session, EventTag.USER_DELETED, actor=user.id, data={"user_id": user.id, "orgs_left": len(left)})


def _require_no_orgs(session: Session, user: User) -> None:
    names = ", ".join(org.name for org in list_owned_orgs(session, user.id))
    if names:
        raise ConflictError(f"You own {names}. Hand over or delete what you own first.")


def _empty(session: Session, user: User, now: datetime) -> None:
    tokens = (OneTimeToken.user_id == user.id) | (OneTimeToken.email_normalized == user.email_normalized)
    session.execute(sa.delete(OneTimeToken).where(tokens))
    session.execute(sa.delete(UserSession).where(UserSession.user_id == user.id))
    session.execute(sa.delete(UpdateNotice).where(UpdateNotice.user_id == user.id))
    user.name, user.email = NAME, ""
    # No address looks like this, so the old one is free for another account.
    user.email_normalized = f"deleted:{user.id}"
    user.password_hash = user.last_org_id = None
    user.is_platform_admin = False
    user.disabled_at = user.deleted_at = now
    session.flush()
