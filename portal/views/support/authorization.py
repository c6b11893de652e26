"""Who may see and do what: the first line of every view loads what it works on, together with the right to it."""

from __future__ import annotations

from dataclasses import dataclass

from flask import abort, request

from portal.models import Bot, Org, OrgState, User, utcnow
from portal.policy import WHILE_DELETING, Action, Role, can, strongest
from portal.services.errors import ForbiddenError, NotFoundError
from portal.services.orgs import orgs, transfers
from portal.web import htmx, refusals
from portal.web.errors import MembershipEnded, SignInRequired
from portal.web.session_cookie import visitor
from portal.web.unit_of_work import session

PUBLIC = frozenset(
    {
        "account_address.follow",
        "assets.vendor",
        "auth.login",
        "auth.sign_in",
        "health.healthz",
        "invitation.accept",
        "invitation.decline",
        "invitation.follow",
        "invitation.join",
        "invitation.mailed",
        "invitation.prove",
        "invitation.show",
        "recovery.ask",
        "recovery.choose",
        "recovery.follow",
        "recovery.reset",
        "recovery.sent",
        "recovery.start",
        "signup.ask",
        "signup.create",
        "signup.finish",
        "signup.follow",
        "signup.sent",
        "signup.start",
        "static",
    }
)
"""Endpoints for everybody; all others need a signed-in user before their own rules are even asked."""


@dataclass(frozen=True)
class OrgAccess:
    """An organization as one person may deal with it."""

    org: Org
    user: User
    roles: frozenset[Role]

    def may(self, action: Action) -> bool:
        """Whether this person may do that here and now."""
        return can(self.roles, action) and (self.org.state is OrgState.ACTIVE or action in WHILE_DELETING)

    @property
    def role(self) -> Role:
        """What to call this person here."""
        return strongest(self.roles) or Role.MEMBER

    @property
    def offered(self) -> bool:
        """Whether the organization is offered to this very person."""
        return transfers.find_offered_user_id(self.org, utcnow()) == self.user.id

    @property
    def belongs(self) -> bool:
        """Whether this person is one of the organization's own people, not only its provider."""
        return bool(self.roles - {Role.OPERATOR})


def require_sign_in() -> None:
    """Default deny: a new page is closed until it is listed as public."""
    if request.endpoint and request.endpoint not in PUBLIC and visitor() is None:
        raise SignInRequired


def require_user() -> User:
    """The signed-in user.

    Raises:
        SignInRequired: when nobody is.
    """
    found = visitor()
    if found is None:
        raise SignInRequired
    return found.user


def require_operator() -> User:
    """The signed-in operator.

    Raises:
        ForbiddenError: for everybody else.
    """
    person = require_user()
    if not person.is_platform_admin:
        refusals.record_refusal(person.id, None, "operate")
        raise ForbiddenError("This part of the portal belongs to the operators of the platform.")
    return person


def require_org(slug: str, action: Action = Action.READ) -> OrgAccess:
    """The organization in the address, for somebody who may do `action` there.

    Raises:
        NotFoundError: for outsiders, whether or not it exists.
        MembershipEnded: for those who belonged to it.
        ForbiddenError: for members whose role does not allow it.
        ConflictError: while it is being deleted, for whatever is not possible then.
    """
    person = require_user()
    found = orgs.find_by_slug(session(), slug)
    roles = orgs.list_roles(session(), found, person) if found else frozenset()
    if found is not None and not can(roles, action):
        refusals.record_refusal(person.id, found.id, action)
    if found is not None and not roles and orgs.was_member(session(), found, person):
        raise MembershipEnded(found.name)
    if found is None or not roles:
        raise NotFoundError("There is no such organization, or you do not belong to it.")
    if not can(roles, action):
        raise ForbiddenError("Your role in this organization does not allow this. Ask its owner or an admin.")
    if action not in WHILE_DELETING:
        orgs.require_active(found)
    _refuse_other_tabs(found)
    return OrgAccess(org=found, user=person, roles=roles)


def require_bot(slug: str, bot_id: str, action: Action = Action.READ) -> tuple[OrgAccess, Bot]:
    """A bot of the organization in the address, with the same rules."""
    access = require_org(slug, action)
    found = orgs.find_bot(session(), access.org, bot_id)
    if found is None:
        raise NotFoundError("There is no such bot in this organization.")
    return access, found


def _refuse_other_tabs(found: Org) -> None:
    """What htmx sends from a page of one organization never acts on another one: each page says whose it is."""
    if htmx.is_fragment() and request.headers.get("X-Tenant-Id") != found.id:
        abort(400, "This page belongs to another organization. Reload it and try again.")
