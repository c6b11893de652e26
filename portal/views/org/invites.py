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
from portal.views.support.configuration import settings
from portal.web import htmx
from portal.web.unit_of_work import apart, session

pages = Blueprint("invites", __name__, url_prefix="/o/<slug>/team/invites")

Answer = BaseResponse | tuple[BaseResponse, int]


@pages.get("")
def index(slug: str) -> Answer:
    """The invites alone, for browsers without script whose form had an error, and for the list's own polling."""
    return _page(authorization.org(slug, Action.MANAGE_TEAM))


@pages.post("")
def send(slug: str) -> Answer:
    """Invite an address, or mail it again."""
    form = InviteForm()
    with apart():
        mine = authorization.org(slug, Action.MANAGE_TEAM)
        if sendable := form.validate():
            invite_limits.spend_for_org(mine.org.id, form.email.data)

    mine = authorization.org(slug, Action.MANAGE_TEAM)
    if not sendable:
        return _form(mine, form), 422
    role = MembershipRole(form.role.data)
    try:
        invite = invites.send(session(), mine.org, form.email.data, role, actor=mine.user, now=utcnow())
    except InvalidError as error:
        form[error.field or "email"].errors = [str(error)]
        return _form(mine, form), 422

    flash(f"{invite.email} is invited.", "info")
    if htmx.is_fragment():
        return _form(mine, InviteForm(formdata=None))
    return _back(slug)


@pages.post("/<invite_id>/resend")
def resend(slug: str, invite_id: str) -> Answer:
    """Mail a pending invite again."""
    with apart():
        mine = authorization.org(slug, Action.MANAGE_TEAM)
        invite_limits.spend_for_org(mine.org.id, invites.address_of(session(), mine.org, invite_id))

    mine = authorization.org(slug, Action.MANAGE_TEAM)
    invite = invites.resend(session(), mine.org, invite_id, actor=mine.user, now=utcnow())
    flash(f"A new mail to {invite.email} is on its way; links mailed before do not work any more.", "info")
    return _list(mine)


@pages.post("/<invite_id>/revoke")
def revoke(slug: str, invite_id: str) -> Answer:
    """Take an invite back."""
    mine = authorization.org(slug, Action.MANAGE_TEAM)
    invite = invites.revoke(session(), mine.org, invite_id, actor=mine.user, now=utcnow())
    flash(f"The invite to {invite.email} is taken back.", "info")
    return _list(mine)


@pages.post("/<invite_id>/link")
def copy_link(slug: str, invite_id: str) -> Answer:
    """Show a link to hand over. It is shown this once, so the form is answered by the page itself."""
    mine = authorization.org(slug, Action.MANAGE_TEAM)
    invite, token = invites.copy_link(session(), mine.org, invite_id, actor=mine.user, now=utcnow())
    template = "org/team/_invite_link.html" if htmx.is_fragment() else "org/team/invite_link.html"
    link = settings().base_url + url_for("invitation.follow", token=token)
    return make_response(render_template(template, access=mine, org=mine.org, invite=invite, link=link))


def panel(mine: OrgAccess, form: InviteForm | None = None) -> dict[str, Any]:
    """What the template `team/_invites.html` needs besides `access` and `org`."""
    return {
        "invites": invites.pending(session(), mine.org, utcnow()),
        "invite_form": form or InviteForm(formdata=None),
    }


def _page(mine: OrgAccess, form: InviteForm | None = None) -> Response:
    return htmx.page(
        "org/team/invites.html",
        live={"pending": "org/team/_pending_invites.html"},
        access=mine,
        org=mine.org,
        **panel(mine, form),
    )


def _form(mine: OrgAccess, form: InviteForm) -> Response:
    if not htmx.is_fragment():
        return _page(mine, form)
    return make_response(
        render_template("org/team/_invites.html", access=mine, org=mine.org, version="", **panel(mine, form))
    )


def _list(mine: OrgAccess) -> Answer:
    if not htmx.is_fragment():
        return _back(mine.org.slug)
    return make_response(
        render_template("org/team/_pending_invites.html", access=mine, org=mine.org, version="", **panel(mine))
    )


def _back(slug: str) -> BaseResponse:
    return htmx.see_other(url_for("team.index", slug=slug, _anchor="invites"))
