"""Organizations coming to be, with the owner they belong to from the first moment, and their names."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import EventTag, Membership, MembershipRole, Org, OrgState, User, utcnow
from portal.policy import Action
from portal.rules import display_names, email_addresses, slugs
from portal.services import events
from portal.services.accounts import accounts
from portal.services.errors import ConflictError, InvalidError, StaleError
from portal.services.events import Actor
from portal.services.orgs import orgs

SLUG_RESERVATION = timedelta(days=30)
"""How long nobody else gets the slug of an organization that was deleted, so that old links lead nowhere foreign."""


def create_org(session: Session, name: str, owner: User, slug: str = "", *, actor: Actor = None) -> Org:
    """Make an organization.

    Args:
        session: a writing transaction.
        name: what people call it.
        owner: whom it belongs to.
        slug: its part of addresses; empty for one made of the name.
        actor: who makes it; None for the owner.

    Raises:
        InvalidError: a field makes no sense; it names the field.
        ConflictError: the slug is taken.
    """
    name = accounts.require_valid_name(name)
    slug = slug.strip() or _free_slug(session, name)
    if problem := slugs.find_problem(slug):
        raise InvalidError(problem, "slug")
    _free_after_deletion(session, slug)
    org = Org(slug=slug, name=name, owner_id=owner.id)
    try:
        with session.begin_nested():
            session.add(org)
    except IntegrityError:
        raise ConflictError(f"The address {slug} is taken; choose another.") from None
    session.add(Membership(org_id=org.id, user_id=owner.id, role=MembershipRole.ADMIN))
    accounts.lock_active(session, owner.id).last_org_id = org.id
    facts = {"slug": slug, "name": name, "owner": owner.id}
    events.record(session, EventTag.ORG_CREATED, actor=actor or owner.id, org_id=org.id, data=facts)
    return org


def create_org_for_email(session: Session, slug: str, name: str, owner_email: str, *, actor: Actor = None) -> Org:
    """Make an organization as an operator, for somebody who may have no account yet.

    Such an owner gets one without a password, so nobody can sign in to it before a reset by mail.

    Raises:
        InvalidError, ConflictError: as `create`.
    """
    owner_email = owner_email.strip()
    if problem := email_addresses.find_problem(owner_email):
        raise InvalidError(problem, "owner")
    return create_org(session, name, _owner(session, owner_email), slug, actor=actor)


def rename_org(session: Session, org: Org, name: str, *, version: int, actor: User) -> Org:
    """Give the organization another name; its address stays.

    Args:
        session: the transaction.
        org: the organization.
        name: the new name; the present one changes nothing.
        version: of the row that the actor saw.
        actor: an owner or admin.

    Raises:
        InvalidError: it is no name.
        StaleError: the organization was changed meanwhile.
        ForbiddenError: the actor may not do that (any more).
    """
    name = accounts.require_valid_name(name)
    org = orgs.lock_org_for_action(session, org, actor, Action.SET_ORG)
    if org.name == name:
        return org
    if org.version != version:
        raise StaleError("Somebody else changed these settings meanwhile. Look again, then decide.")
    data = {"old": org.name, "new": name}
    org.name, org.version = name, org.version + 1
    session.flush()
    events.record(session, EventTag.ORG_RENAMED, actor=actor, org_id=org.id, data=data)
    return org


def _free_slug(session: Session, name: str) -> str:
    suggestions = (slugs.suggest_slug(name, number) for number in count(1))
    return next(slug for slug in suggestions if not session.scalar(sa.select(Org.id).where(Org.slug == slug)))


def _free_after_deletion(session: Session, slug: str) -> None:
    """Take the slug from an organization that was deleted long ago; its row stays, for the log points at it."""
    session.execute(
        sa.update(Org)
        .where(Org.slug == slug, Org.state == OrgState.DELETED, Org.deleted_at <= utcnow() - SLUG_RESERVATION)
        .values(slug=sa.literal("deleted-") + Org.id)
    )


def _owner(session: Session, email: str) -> User:
    user = accounts.find_by_email(session, email)
    if user is None:
        user = User(
            email=email,
            email_normalized=email_addresses.normalize(email),
            name=email.partition("@")[0][: display_names.MAX_LENGTH],
        )
        session.add(user)
        session.flush()
    return user
