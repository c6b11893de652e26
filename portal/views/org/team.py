"""Team page of an organization: list of members, roles, removal, leaving."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response, flash, make_response, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from portal.forms.orgs import ROLE_CHOICES, RemovalForm, RoleForm
from portal.models import MembershipRole, utcnow
from portal.policy import Action
from portal.rules.roles import ROLES
from portal.services.errors import NotFoundError, StaleError
from portal.services.orgs import member_list, memberships
from portal.services.orgs.member_list import MemberRow
from portal.views.org import invites, member_sync
from portal.views.support import authorization
from portal.views.support.authorization import OrgAccess
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("team", __name__, url_prefix="/o/<slug>/team")

Answer = BaseResponse | tuple[BaseResponse, int]


@pages.get("")
def index(slug: str) -> Answer:
    """List the members, searchable and in pages."""
    return _render_page(authorization.require_org(slug))


@pages.post("/<membership_id>/role")
def change_role(slug: str, membership_id: str) -> Answer:
    """Change the role of a member."""
    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    form = RoleForm()
    if not form.validate():
        return _render_row(access, membership_id, " ".join(_list_errors(form))), 422
    role = MembershipRole(form.role.data)
    try:
        row = memberships.change_role(
            session(),
            access.org,
            membership_id,
            role,
            version=form.version.data,
            actor=access.user,
            now=utcnow(),
        )
    except StaleError as error:
        return _render_row(access, membership_id, str(error)), 409
    flash(f"{row.user.name} is now {ROLES[role].noun}.", "info")
    if row.user_id == access.user.id or not htmx.is_fragment():
        return htmx.go_to(url_for("team.index", slug=slug))
    return _render_row(access, membership_id)


@pages.get("/<membership_id>/remove")
def confirm_removal(slug: str, membership_id: str) -> Answer:
    """Ask for confirmation and show the consequences."""
    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    return htmx.page(
        "org/team/remove.html",
        parts={"dialog": "org/team/_remove.html"},
        access=access,
        org=access.org,
        member=_get_member(access, membership_id),
    )


@pages.post("/<membership_id>/remove")
def remove(slug: str, membership_id: str) -> Answer:
    """Remove a member."""
    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    form = RemovalForm()
    if not form.validate():
        return _render_row(access, membership_id, " ".join(_list_errors(form))), 422
    try:
        row = memberships.remove_member(
            session(), access.org, membership_id, version=form.version.data, actor=access.user, now=utcnow()
        )
    except StaleError as error:
        return htmx.announce(_render_row(access, membership_id, str(error)), "dialog:close"), 409
    flash(f"{row.user.name} was removed from {access.org.name}.", "info")
    if row.user_id == access.user.id or not htmx.is_fragment():
        return htmx.go_to(url_for("team.index", slug=slug))
    # The empty answer replaces the row, and the event closes the dialog.
    return htmx.announce(Response(), "dialog:close", "members:changed")


@pages.get("/leave")
def confirm_leaving(slug: str) -> Answer:
    """Ask for confirmation and show the consequences."""
    access = authorization.require_org(slug, Action.LEAVE)
    return htmx.page("org/team/leave.html", parts={"dialog": "org/team/_leave.html"}, access=access, org=access.org)


@pages.post("/leave")
def leave(slug: str) -> Answer:
    """End the user's own membership."""
    access = authorization.require_org(slug, Action.LEAVE)
    memberships.leave_org(session(), access.org, actor=access.user, now=utcnow())
    flash(f"You left {access.org.name}.", "info")
    return htmx.go_to(url_for("orgs.index"))


def _render_page(access: OrgAccess, refusal: str = "") -> Response:
    text = request.args.get("q", "")
    page = max(1, request.args.get("page", 1, type=int))
    listing = member_list.search_members(session(), access.org, text, page)
    return htmx.page(
        "org/team/page.html",
        live={"updates": "org/team/_sync_updates.html", "count": "org/team/_member_count.html"},
        parts={"members": "org/team/_members.html"},
        access=access,
        org=access.org,
        listing=listing,
        is_outdated=_is_outdated(listing.lines),
        text=text,
        refusal=refusal,
        role_choices=ROLE_CHOICES,
        **member_sync.build_context(access),
        **(invites.build_context(access) if access.may(Action.MANAGE_TEAM) else {}),
    )


def _is_outdated(lines: Sequence[MemberRow]) -> bool:
    """Return whether the page that asks shows, and names as `member`, other people than the current list."""
    shown = request.args.getlist("member")
    return bool(shown) and set(shown) != {line.membership.id for line in lines}


def _render_row(access: OrgAccess, membership_id: str, refusal: str = "") -> Response:
    """Render the current row of a member: the row alone for htmx, else the whole page."""
    member = _get_member(access, membership_id)
    if not htmx.is_fragment():
        return _render_page(access, refusal)
    return make_response(
        render_template(
            "org/team/_member.html",
            access=access,
            org=access.org,
            member=member,
            refusal=refusal,
            role_choices=ROLE_CHOICES,
        )
    )


def _get_member(access: OrgAccess, membership_id: str) -> MemberRow:
    found = member_list.find_member(session(), access.org, membership_id)
    if found is None:
        raise NotFoundError("This organization has no such member.")
    return found


def _list_errors(form: RoleForm | RemovalForm) -> list[str]:
    return [str(error) for errors in form.errors.values() for error in errors]
