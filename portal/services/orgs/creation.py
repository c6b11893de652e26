"""Creating and renaming organizations. Used by the portal, the command line and the demo."""

from __future__ import annotations

from datetime import datetime
from itertools import count

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import BotRequest, BotTemplate, EventTag, Membership, MembershipRole, Org, OrgState, User
from portal.policy import Action
from portal.rules import display_names, email_addresses, slugs
from portal.services import events
from portal.services.accounts import accounts
from portal.services.errors import ConflictError, InvalidError, StaleError
from portal.services.events import Actor
from portal.services.orgs import orgs


def create_org(
    session: Session,
    name: str,
    owner: User,
    slug: str = "",
    *,
    now: datetime,
    actor: Actor = None,
    max_owned: int | None = None,
) -> Org:
    """Create an organization, and request its first bot if every new organization gets one.

    Args:
        session: a writing transaction.
        name: the display name.
        owner: the user who owns it.
        slug: the URL name; empty to derive one from the name.
        now: the current moment.
        actor: the user who acted; None for the owner.
        max_owned: how many organizations one user may own; None for no limit.

    Raises:
        InvalidError: the name or the slug is not valid, or the owner owns too many; the error names the field.
        ConflictError: the slug is taken.
    """
    name = accounts.require_valid_name(name)
    slug = slug.strip() or _find_free_slug(session, name)
    if problem := slugs.find_problem(slug):
        raise InvalidError(problem, "slug")
    locked_owner = orgs.lock_future_owner(session, owner, max_owned)
    _release_expired_slug(session, slug, now)
    org = Org(slug=slug, name=name, owner_id=owner.id)
    try:
        with session.begin_nested():
            session.add(org)
    except IntegrityError:
        raise ConflictError(f"The URL name {slug} is taken. Choose another one.") from None
    session.add(Membership(org_id=org.id, user_id=owner.id, role=MembershipRole.ADMIN))
    locked_owner.last_org_id = org.id
    _request_bot(session, org, now)
    facts = {"slug": slug, "name": name, "owner": owner.id}
    events.record(session, EventTag.ORG_CREATED, actor=actor or owner.id, org_id=org.id, data=facts)
    return org


def create_org_for_email(
    session: Session, slug: str, name: str, owner_email: str, *, now: datetime, actor: Actor = None
) -> Org:
    """Create an organization as an operator, for an owner who may have no account yet.

    A missing account is created without a password. Its owner sets one with a password reset by mail.

    Raises:
        InvalidError, ConflictError: see `create_org`.
    """
    owner_email = owner_email.strip()
    if problem := email_addresses.find_problem(owner_email):
        raise InvalidError(problem, "owner")
    return create_org(session, name, _find_or_create_owner(session, owner_email), slug, now=now, actor=actor)


def rename_org(session: Session, org: Org, name: str, *, version: int, actor: User) -> Org:
    """Change the name of an organization. Its slug stays the same.

    Args:
        session: the transaction.
        org: the organization.
        name: the new name; the current name changes nothing.
        version: the version of the row that the actor saw.
        actor: an owner or admin.

    Raises:
        InvalidError: the name is not valid.
        StaleError: the organization was changed since the actor saw it.
        ForbiddenError: the actor has no right to do this.
    """
    name = accounts.require_valid_name(name)
    org = orgs.lock_org_for_action(session, org, Action.SET_ORG, actor=actor)
    if org.name == name:
        return org
    if org.version != version:
        raise StaleError("Another person changed these settings. Check the current values, then save again.")
    data = {"old": org.name, "new": name}
    org.name, org.version = name, org.version + 1
    session.flush()
    events.record(session, EventTag.ORG_RENAMED, actor=actor, org_id=org.id, data=data)
    return org


def _request_bot(session: Session, org: Org, now: datetime) -> None:
    """Request a bot for a new organization, if the bot template says so. The scheduler creates it within a second."""
    if session.scalar(sa.select(BotTemplate.create_for_new_orgs)):
        session.add(BotRequest(org_id=org.id, requested_at=now, due_at=now))
        session.flush()


def _find_free_slug(session: Session, name: str) -> str:
    suggestions = (slugs.suggest_slug(name, number) for number in count(1))
    return next(slug for slug in suggestions if not session.scalar(sa.select(Org.id).where(Org.slug == slug)))


def _release_expired_slug(session: Session, slug: str, now: datetime) -> None:
    """Rename the slug of an organization whose reservation has ended. Its row stays, because events refer to it."""
    session.execute(
        sa.update(Org)
        .where(Org.slug == slug, Org.state == OrgState.DELETED, Org.deleted_at <= now - slugs.KEPT_AFTER_DELETION)
        .values(slug=sa.literal("deleted-") + Org.id)
    )


def _find_or_create_owner(session: Session, email: str) -> User:
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
