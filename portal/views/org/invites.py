"""Invite form and list of pending invites: a section of the team page."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, make_response, render_template, url_for
from werkzeug.wrappers import Response as BaseResponse

from portal.forms.invites import InviteForm
from portal.models import MembershipRole, utcnow
from portal.policy import Action
from portal.services.errors import InvalidError
from portal.services.orgs import invites
from portal.views.support import authorization, mail_limits
from portal.views.support.authorization import OrgAccess
from portal.views.support.configuration import current_settings
from portal.web import htmx
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("invites", __name__, url_prefix="/o/<slug>/team/invites")

Answer = BaseResponse | tuple[BaseResponse, int]


@pages.get("")
def index(slug: str) -> Answer:
    """Show the invites alone: for the polling list, and for browsers without JavaScript after a form error."""
    return _render_page(authorization.require_org(slug, Action.MANAGE_TEAM))


@pages.post("")
def send(slug: str) -> Answer:
    """Invite an email address, or mail its pending invite again."""
    form = InviteForm()
    with separate_transaction():
        access = authorization.require_org(slug, Action.MANAGE_TEAM)
        if is_valid := form.validate():
            mail_limits.count_invite(access.org.id, form.email.data, actor=access.user)

    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    if not is_valid:
        return _render_form(access, form), 422
    role = MembershipRole(form.role.data)
    try:
        invite = invites.send_invite(session(), access.org, form.email.data, role, actor=access.user, now=utcnow())
    except InvalidError as error:
        form[error.field or "email"].errors = [str(error)]
        return _render_form(access, form), 422

    flash(f"Invite sent to {invite.email}.", "info")
    if htmx.is_fragment():
        return _render_form(access, InviteForm(formdata=None))
    return _redirect_to_invites(slug)


@pages.post("/<invite_id>/resend")
def resend(slug: str, invite_id: str) -> Answer:
    """Mail a pending invite again."""
    with separate_transaction():
        access = authorization.require_org(slug, Action.MANAGE_TEAM)
        email = invites.get_invited_email(session(), access.org, invite_id)
        mail_limits.count_invite(access.org.id, email, actor=access.user)

    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    invite = invites.resend_invite(session(), access.org, invite_id, actor=access.user, now=utcnow())
    flash(f"Invite sent to {invite.email} again. Links in earlier mails no longer work.", "info")
    return _render_list(access)


@pages.post("/<invite_id>/revoke")
def revoke(slug: str, invite_id: str) -> Answer:
    """Revoke an invite."""
    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    invite = invites.revoke_invite(session(), access.org, invite_id, actor=access.user, now=utcnow())
    flash(f"Invite to {invite.email} revoked.", "info")
    return _render_list(access)


@pages.post("/<invite_id>/link")
def copy_link(slug: str, invite_id: str) -> Answer:
    """Show a link to pass on. The answer contains the link instead of redirecting, because it is shown only once."""
    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    invite, token = invites.copy_link(session(), access.org, invite_id, actor=access.user, now=utcnow())
    template = "org/team/_invite_link.html" if htmx.is_fragment() else "org/team/invite_link.html"
    link = current_settings().base_url + url_for("invitation.follow", token=token)
    return make_response(render_template(template, access=access, org=access.org, invite=invite, link=link))


def build_context(access: OrgAccess, form: InviteForm | None = None) -> dict[str, Any]:
    """Build the context of the template `org/team/_invites.html`, without `access` and `org`."""
    return {
        "invites": invites.list_pending(session(), access.org, utcnow()),
        "invite_form": form or InviteForm(formdata=None),
    }


def _render_page(access: OrgAccess, form: InviteForm | None = None) -> Response:
    return htmx.page(
        "org/team/invites.html",
        live={"pending": "org/team/_pending_invites.html"},
        access=access,
        org=access.org,
        **build_context(access, form),
    )


def _render_form(access: OrgAccess, form: InviteForm) -> Response:
    if not htmx.is_fragment():
        return _render_page(access, form)
    return make_response(
        render_template(
            "org/team/_invites.html", access=access, org=access.org, version="", **build_context(access, form)
        )
    )


def _render_list(access: OrgAccess) -> Answer:
    if not htmx.is_fragment():
        return _redirect_to_invites(access.org.slug)
    return make_response(
        render_template(
            "org/team/_pending_invites.html", access=access, org=access.org, version="", **build_context(access)
        )
    )


def _redirect_to_invites(slug: str) -> BaseResponse:
    return htmx.see_other(url_for("team.index", slug=slug, _anchor="invites"))
