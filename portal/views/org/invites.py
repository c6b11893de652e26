"""Inviting people to an organization, and the list of invites nobody answered yet: a part of the team's page."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, make_response, render_template, url_for
from werkzeug.wrappers import Response as BaseResponse

from portal.forms.invites import InviteForm
from portal.models import MembershipRole, utcnow
from portal.policy import Action
from portal.services.errors import InvalidError
from portal.services.orgs import invites
from portal.views.support import authorization, invite_limits
from portal.views.support.authorization import OrgAccess
from portal.views.support.configuration import current_settings
from portal.web import htmx
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("invites", __name__, url_prefix="/o/<slug>/team/invites")

Answer = BaseResponse | tuple[BaseResponse, int]


@pages.get("")
def index(slug: str) -> Answer:
    """The invites alone, for browsers without script whose form had an error, and for the list's own polling."""
    return _page(authorization.require_org(slug, Action.MANAGE_TEAM))


@pages.post("")
def send(slug: str) -> Answer:
    """Invite an address, or mail it again."""
    form = InviteForm()
    with separate_transaction():
        access = authorization.require_org(slug, Action.MANAGE_TEAM)
        if sendable := form.validate():
            invite_limits.count_mail_of_org(access.org.id, form.email.data)

    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    if not sendable:
        return _form(access, form), 422
    role = MembershipRole(form.role.data)
    try:
        invite = invites.send_invite(session(), access.org, form.email.data, role, actor=access.user, now=utcnow())
    except InvalidError as error:
        form[error.field or "email"].errors = [str(error)]
        return _form(access, form), 422

    flash(f"{invite.email} is invited.", "info")
    if htmx.is_fragment():
        return _form(access, InviteForm(formdata=None))
    return _back(slug)


@pages.post("/<invite_id>/resend")
def resend(slug: str, invite_id: str) -> Answer:
    """Mail a pending invite again."""
    with separate_transaction():
        access = authorization.require_org(slug, Action.MANAGE_TEAM)
        invite_limits.count_mail_of_org(access.org.id, invites.get_invited_email(session(), access.org, invite_id))

    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    invite = invites.resend_invite(session(), access.org, invite_id, actor=access.user, now=utcnow())
    flash(f"A new mail to {invite.email} is on its way; links mailed before do not work any more.", "info")
    return _list(access)


@pages.post("/<invite_id>/revoke")
def revoke(slug: str, invite_id: str) -> Answer:
    """Take an invite back."""
    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    invite = invites.revoke_invite(session(), access.org, invite_id, actor=access.user, now=utcnow())
    flash(f"The invite to {invite.email} is taken back.", "info")
    return _list(access)


@pages.post("/<invite_id>/link")
def copy_link(slug: str, invite_id: str) -> Answer:
    """Show a link to hand over. It is shown this once, so the form is answered by the page itself."""
    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    invite, token = invites.copy_link(session(), access.org, invite_id, actor=access.user, now=utcnow())
    template = "org/team/_invite_link.html" if htmx.is_fragment() else "org/team/invite_link.html"
    link = current_settings().base_url + url_for("invitation.follow", token=token)
    return make_response(render_template(template, access=access, org=access.org, invite=invite, link=link))


def panel(access: OrgAccess, form: InviteForm | None = None) -> dict[str, Any]:
    """What the template `team/_invites.html` needs besides `access` and `org`."""
    return {
        "invites": invites.list_pending(session(), access.org, utcnow()),
        "invite_form": form or InviteForm(formdata=None),
    }


def _page(access: OrgAccess, form: InviteForm | None = None) -> Response:
    return htmx.page(
        "org/team/invites.html",
        live={"pending": "org/team/_pending_invites.html"},
        access=access,
        org=access.org,
        **panel(access, form),
    )


def _form(access: OrgAccess, form: InviteForm) -> Response:
    if not htmx.is_fragment():
        return _page(access, form)
    return make_response(
        render_template("org/team/_invites.html", access=access, org=access.org, version="", **panel(access, form))
    )


def _list(access: OrgAccess) -> Answer:
    if not htmx.is_fragment():
        return _back(access.org.slug)
    return make_response(
        render_template("org/team/_pending_invites.html", access=access, org=access.org, version="", **panel(access))
    )


def _back(slug: str) -> BaseResponse:
    return htmx.see_other(url_for("team.index", slug=slug, _anchor="invites"))
