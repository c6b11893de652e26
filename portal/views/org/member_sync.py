"""Live states of the member sync on the team page, and the retry of a failed call."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, make_response, request, url_for
from werkzeug.wrappers import Response

from portal.models import utcnow
from portal.policy import Action
from portal.services.orgs import former_members, member_list
from portal.services.orgs.member_list import MemberRow
from portal.services.syncs import bot_people, operations
from portal.views.support import authorization
from portal.views.support.authorization import OrgAccess
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("member_sync", __name__, url_prefix="/o/<slug>/team/sync")


@pages.get("")
def index(slug: str) -> Response:
    """Refresh the removed members, and the states of the members that the page shows and names as `member`."""
    access = authorization.require_org(slug)
    if not htmx.is_fragment() or request.args.get("part") != "updates":
        return htmx.go_to(url_for("team.index", slug=slug))
    shown = member_list.find_members(session(), access.org, request.args.getlist("member"))
    template = "org/team/_sync_updates.html"
    return htmx.page(
        template, live={"updates": template}, access=access, org=access.org, **build_context(access, shown)
    )


@pages.post("/<row_id>/retry")
def retry(slug: str, row_id: str) -> Response:
    """Make the next call about one person to one bot due now."""
    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    row = bot_people.find_row_of_org(session(), access.org, row_id)
    operations.retry(session(), row)
    flash("Trying again now.", "info")
    if htmx.is_fragment():
        return htmx.announce(make_response(""), "members:changed")
    return htmx.see_other(url_for("team.index", slug=slug))


def build_context(access: OrgAccess, updated: list[MemberRow] | None = None) -> dict[str, Any]:
    """Return what the part that refreshes the states needs.

    Args:
        access: the organization and the visitor.
        updated: the members whose states the page replaces; None when the page is first shown.
    """
    # The names of removed people are in the audit log, so those who may read it see them here, too.
    may_see_former = access.may(Action.READ_AUDIT)
    former = former_members.list_former_members(session(), access.org, utcnow()) if may_see_former else None
    is_settled = updated is not None and all(sync.is_settled for row in updated for sync in row.syncs)
    return {
        "former": former,
        "updated": updated or [],
        "is_pending": not is_settled or bool(former and former.ending),
    }
