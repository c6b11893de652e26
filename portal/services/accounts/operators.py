"""Checks that the platform keeps an operator who can sign in. Used by account administration and account deletion."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import User
from portal.services.errors import ConflictError, ForbiddenError


def lock_all(session: Session) -> set[str]:
    """Lock all operators until the transaction ends.

    Call this before removing an operator. When two operators remove each other at the same time, the second
    transaction waits here and then sees that it would remove the last operator.

    Returns:
        The ids of the operators whose accounts are enabled.
    """
    statement = sa.select(User.id).where(User.is_platform_admin, User.disabled_at.is_(None))
    return set(session.scalars(statement.order_by(User.id).with_for_update()))


def require_operator(operator_ids: set[str], *, actor: User | None) -> None:
    """Check that the actor is still an operator. The command line, where `actor` is None, always passes.

    Args:
        operator_ids: from `lock_all`.
        actor: the user who acts; None at the command line.

    Raises:
        ForbiddenError: the actor is no longer an operator.
    """
    if actor is not None and actor.id not in operator_ids:
        raise ForbiddenError("You are no longer an operator.")


def require_another_operator(operator_ids: set[str], user: User) -> None:
    """Check that the platform has an operator besides this user.

    Args:
        operator_ids: from `lock_all`.
        user: the operator to remove.

    Raises:
        ConflictError: the user is the last operator.
    """
    if operator_ids <= {user.id}:
        raise ConflictError(f"{user.name} is the last operator. Make another user an operator first.")
