"""Authorization of requests: load a resource and check the user's right to it. Every view starts with this."""

from __future__ import annotations

from dataclasses import dataclass

from flask import abort, request

from portal.models import Bot, Org, OrgState, User, utcnow
from portal.policy import WHILE_DELETING, Action, can
from portal.rules.roles import Role
from portal.services import fleet_settings
from portal.services.errors import ForbiddenError, NotFoundError
from portal.services.orgs import orgs, transfers
from portal.web import htmx, refusals
from portal.web.errors import MembershipEnded, SignInRequired
from portal.web.session_cookie import current_visitor
from portal.web.unit_of_work import session

PUBLIC = frozenset(
    {
        "account_address.follow",
        "assertion_keys.key_set",
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
"""Endpoints for everybody. All others require a signed-in user before their own rules apply."""


@dataclass(frozen=True)
class OrgAccess:
    """An organization, the signed-in user, and the user's roles in the organization."""

    org: Org
    user: User
    roles: frozenset[Role]

    def may(self, action: Action) -> bool:
        """Whether the user may do `action` in the organization's current state."""
        return can(self.roles, action) and (self.org.state is OrgState.ACTIVE or action in WHILE_DELETING)

    @property
    def may_read_logs(self) -> bool:
        """Whether the user may read the logs of the bots. A setting of the fleet hides them from members."""
        is_open = fleet_settings.get_settings(session()).members_read_logs
        return can(self.roles if is_open else self.roles - {Role.MEMBER}, Action.READ_LOGS)

    @property
    def has_ownership_offer(self) -> bool:
        """Whether the user has a valid offer to become the owner."""
        return transfers.find_offered_user_id(self.org, utcnow()) == self.user.id

    @property
    def is_member(self) -> bool:
        """Whether the user belongs to the organization, and is not only an operator."""
        return bool(self.roles - {Role.OPERATOR})


def require_sign_in() -> None:
    """Require a signed-in user for every endpoint that is not listed as public."""
    if request.endpoint and request.endpoint not in PUBLIC and current_visitor() is None:
        raise SignInRequired


def require_user() -> User:
    """Return the signed-in user.

    Raises:
        SignInRequired: the visitor is not signed in.
    """
    visitor = current_visitor()
    if visitor is None:
        raise SignInRequired
    return visitor.user


def require_operator() -> User:
    """Return the signed-in operator.

    Raises:
        SignInRequired: the visitor is not signed in.
        ForbiddenError: the user is not an operator.
    """
    user = require_user()
    if not user.is_platform_admin:
        refusals.note_refusal("operate", actor=user, org_id=None)
        raise ForbiddenError("Only operators can open this page.")
    return user


def require_org(slug: str, action: Action = Action.READ) -> OrgAccess:
    """Return the organization of the URL, for a user who may do `action` there.

    Raises:
        SignInRequired: the visitor is not signed in.
        NotFoundError: the organization does not exist, or the user is an outsider.
        MembershipEnded: the user is a former member.
        ForbiddenError: the user's role does not allow the action.
        ConflictError: the organization is being deleted, and the action is not in `WHILE_DELETING`.
    """
    user = require_user()
    org = orgs.find_by_slug(session(), slug)
    roles = orgs.list_roles(session(), org, user) if org else frozenset()
    if org is not None and not can(roles, action):
        refusals.note_refusal(action, actor=user, org_id=org.id)
    if org is not None and not roles and orgs.was_member(session(), org, user):
        raise MembershipEnded(org.name)
    if org is None or not roles:
        raise NotFoundError("This organization does not exist, or you don't have access to it.")
    if not can(roles, action):
        raise ForbiddenError("Your role in this organization does not allow this. Ask its owner or an admin.")
    if action not in WHILE_DELETING:
        orgs.require_active(org)
    _require_tenant_header(org)
    return OrgAccess(org=org, user=user, roles=roles)


def require_bot(slug: str, bot_id: str, action: Action = Action.READ) -> tuple[OrgAccess, Bot]:
    """Return the organization of the URL and its bot, by the rules of `require_org`.

    Raises:
        NotFoundError: the organization has no such bot.
    """
    access = require_org(slug, action)
    bot = orgs.find_bot(session(), access.org, bot_id)
    if bot is None:
        raise NotFoundError("This organization has no such bot.")
    return access, bot


def require_logs(slug: str, bot_id: str) -> tuple[OrgAccess, Bot]:
    """Return an organization and its bot for a user who may read its log, by the rules of `require_bot`.

    Raises:
        ForbiddenError: a setting of the fleet hides logs from members.
    """
    access, bot = require_bot(slug, bot_id, Action.READ_LOGS)
    if not access.may_read_logs:
        refusals.note_refusal(Action.READ_LOGS, actor=access.user, org_id=access.org.id)
        raise ForbiddenError("Your provider shows logs to owners and admins only.")
    return access, bot


def require_bot_by_subdomain(subdomain: str, action: Action) -> tuple[OrgAccess, Bot]:
    """Return the bot at a subdomain and its organization, by the rules of `require_org`.

    Raises:
        NotFoundError: there is no such bot, or the user is an outsider.
    """
    require_user()
    bot = orgs.find_bot_by_subdomain(session(), subdomain)
    message = "This bot does not exist, or you don't have access to it."
    if bot is None:
        raise NotFoundError(message)
    try:
        return require_org(bot.org.slug, action), bot
    except NotFoundError:
        raise NotFoundError(message) from None


def _require_tenant_header(org: Org) -> None:
    """Refuse an htmx request from the page of another organization, such as another tab. Pages send their org."""
    if htmx.is_fragment() and request.headers.get("X-Tenant-Id") != org.id:
        abort(400, "This page belongs to another organization. Reload it and try again.")
