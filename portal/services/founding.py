"""Organizations made by operators, with the owner they belong to from the first moment."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import Membership, MembershipRole, Org, OrgState, User
from portal.services import accounts, events
from portal.services.errors import ConflictError, InvalidError

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{1,46}[a-z0-9]")
_RESERVED = frozenset({"admin", "api", "app", "docs", "mail", "status", "www"})
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
_LONGEST_NAME = 100


def found(session: Session, slug: str, name: str, owner_email: str, *, actor_id: str | None = None) -> Org:
    """Make an organization.

    An owner without an account gets one that has no password yet, so nobody can sign in to it.

    Args:
        session: a writing transaction.
        slug: its part of addresses: 3 to 48 lower-case letters, digits and dashes.
        name: what people call it.
        owner_email: of the person who owns it.
        actor_id: the operator.

    Raises:
        InvalidError: a field makes no sense; it names the field.
        ConflictError: the slug is taken.
    """
    name = name.strip()
    _check(slug, name, owner_email)
    owner = _owner(session, owner_email.strip())
    org = Org(slug=slug, name=name, owner_id=owner.id)
    try:
        with session.begin_nested():
            session.add(org)
    except IntegrityError:
        raise ConflictError(f"The slug {slug} is taken; choose another.") from None
    session.add(Membership(org_id=org.id, user_id=owner.id, role=MembershipRole.ADMIN))
    events.record(session, "org.created", actor_id=actor_id, org_id=org.id, data={"slug": slug, "owner": owner.id})
    return org


def every(session: Session) -> list[Org]:
    """All organizations but deleted ones, by slug."""
    return list(session.scalars(sa.select(Org).where(Org.state != OrgState.DELETED).order_by(Org.slug)))


def _check(slug: str, name: str, owner_email: str) -> None:
    if not _SLUG.fullmatch(slug):
        raise InvalidError(f"{slug!r} cannot be a slug: use 3 to 48 lower-case letters, digits and dashes.", "slug")
    if slug in _RESERVED:
        raise InvalidError(f"The slug {slug} is reserved; choose another.", "slug")
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidError(f"A name has 1 to {_LONGEST_NAME} printable characters.", "name")
    if not _ADDRESS.fullmatch(owner_email.strip()):
        raise InvalidError(f"{owner_email!r} is not an email address.", "owner")


def _owner(session: Session, email: str) -> User:
    normalized = accounts.normalized(email)
    user = session.scalar(sa.select(User).where(User.email_normalized == normalized))
    if user is None:
        user = User(email=email, email_normalized=normalized, name=email.partition("@")[0][:_LONGEST_NAME])
        session.add(user)
        session.flush()
    return user
