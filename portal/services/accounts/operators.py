"""Who runs the platform. It never is without an operator who can sign in."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import User
from portal.services.errors import ConflictError, ForbiddenError


def lock_all(session: Session) -> set[str]:
    """Lock everybody who runs the platform until the transaction ends.

    Whoever takes an operator away does this first, so of two operators who remove each other one is too late.

    Returns:
        Ids of the operators whose account is not disabled.
    """
    statement = sa.select(User.id).where(User.is_platform_admin, User.disabled_at.is_(None))
    return set(session.scalars(statement.order_by(User.id).with_for_update()))


def require_operator(operators: set[str], actor: User | None) -> None:
    """Do nothing for an operator, and for the command line, where nobody is signed in.

    Args:
        operators: from `lock`.
        actor: who acts; None at the command line.

    Raises:
        ForbiddenError: the actor is no operator (any more).
    """
    if actor is not None and actor.id not in operators:
        raise ForbiddenError("You are no operator any more.")


def require_another_operator(operators: set[str], user: User) -> None:
    """Do nothing if the platform still has an operator without this one.

    Args:
        operators: from `lock`.
        user: who is to be taken away.

    Raises:
        ConflictError: it is the last one.
    """
    if operators <= {user.id}:
        raise ConflictError(f"{user.name} is the last operator. Make somebody else one first.")
