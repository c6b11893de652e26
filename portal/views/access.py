"""Who may see and do what: the first line of every view loads what it works on, together with the right to it."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request

from portal.errors import SignInRequired
from portal.models import Bot, Org, User
from portal.policy import Action, Role, can
from portal.services import orgs
from portal.services.errors import ForbiddenError, NotFoundError
from portal.sessions import visitor
from portal.unit_of_work import session

PUBLIC = frozenset({"assets.vendor", "auth.login", "auth.sign_in", "health.healthz", "static"})
"""Endpoints for everybody; all others need a signed-in user before their own rules are even asked."""


@dataclass(frozen=True)
class OrgAccess:
    """An organization as one person may deal with it."""

    org: Org
    user: User
    roles: frozenset[Role]

    def may(self, action: Action) -> bool:
        """Whether this person may do that here."""
        return can(self.roles, action)


def refuse_strangers() -> None:
    """Default deny: a new page is closed until it is listed as public."""
    if request.endpoint and request.endpoint not in PUBLIC and visitor() is None:
        raise SignInRequired


def user() -> User:
    """The signed-in user.

    Raises:
        SignInRequired: when nobody is.
    """
    found = visitor()
    if found is None:
        raise SignInRequired
    return found.user


def operator() -> User:
    """The signed-in operator.

    Raises:
        ForbiddenError: for everybody else.
    """
    person = user()
    if not person.is_platform_admin:
        raise ForbiddenError("This part of the portal belongs to the operators of the platform.")
    return person


def org(slug: str, action: Action = Action.READ) -> OrgAccess:
    """The organization in the address, for somebody who may do `action` there.

    Raises:
        NotFoundError: for outsiders, whether or not it exists.
        ForbiddenError: for members whose role does not allow it.
    """
    person = user()
    found = orgs.by_slug(session(), slug)
    roles = orgs.roles(session(), found, person) if found else frozenset()
    if found is None or not roles:
        raise NotFoundError("There is no such organization, or you do not belong to it.")
    if not can(roles, action):
        raise ForbiddenError("Your role in this organization does not allow this. Ask its owner or an admin.")
    return OrgAccess(org=found, user=person, roles=roles)


def bot(slug: str, bot_id: str, action: Action = Action.READ) -> tuple[OrgAccess, Bot]:
    """A bot of the organization in the address, with the same rules."""
    access = org(slug, action)
    found = orgs.bot(session(), access.org, bot_id)
    if found is None:
        raise NotFoundError("There is no such bot in this organization.")
    return access, found
