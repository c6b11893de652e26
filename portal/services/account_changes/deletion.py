"""Deletion of a user's own account: its conditions. Used by the page that deletes an account."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, Org, OrgState, User
from portal.services import events
from portal.services.account_changes import erasure
from portal.services.accounts import accounts, operators
from portal.services.accounts.accounts import Credentials
from portal.services.errors import ConflictError
from portal.services.orgs import memberships


def list_owned_orgs(session: Session, user_id: str) -> Sequence[Org]:
    """Return the organizations a user owns, by name, including those that are being deleted and can be restored.

    An owner cannot delete their account before these organizations have another owner or are deleted.
    """
    statement = sa.select(Org).where(Org.owner_id == user_id, Org.state != OrgState.DELETED)
    return session.scalars(statement.order_by(Org.name)).all()


def delete_account(session: Session, credentials: Credentials, now: datetime) -> None:
    """End the user's memberships and sessions, and erase the account's personal data.

    The row stays, because events and memberships refer to it.

    Args:
        session: the transaction.
        credentials: the credentials of the account, whose password was just verified.
        now: the current time.

    Raises:
        ConflictError: the user owns organizations (the message names them), is the last operator, joined another
            organization at the same time, or changed the password since it was verified.
    """
    user = session.get_one(User, credentials.user_id)
    _require_no_owned_orgs(session, user)
    orgs_left = memberships.list_orgs(session, user.id)
    for org in orgs_left:
        memberships.leave_org(session, org, actor=user, now=now)
    if user.is_platform_admin:
        operators.require_another_operator(operators.lock_all(session), user)
    # A transaction that gives this user an organization or a role locks the account too. It either waits for this
    # lock or committed before, so the checks below see its result.
    user = session.get_one(User, credentials.user_id, with_for_update=True, populate_existing=True)
    accounts.require_current_credentials(session, credentials)
    _require_no_owned_orgs(session, user)
    if memberships.list_orgs(session, user.id):
        raise ConflictError("You just joined another organization. Reload the page and check what you would delete.")
    erasure.erase_personal_data(session, user, now)
    facts = {"user_id": user.id, "orgs_left": len(orgs_left)}
    events.record(session, EventTag.USER_DELETED, actor=user, data=facts)


def _require_no_owned_orgs(session: Session, user: User) -> None:
    names = ", ".join(org.name for org in list_owned_orgs(session, user.id))
    if names:
        raise ConflictError(f"You own {names}. Transfer ownership or delete the organization first.")
