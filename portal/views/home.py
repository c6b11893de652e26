"""The address without a path: on to where the visitor's work is."""

from __future__ import annotations

from flask import Blueprint, render_template, url_for
from werkzeug.wrappers import Response

from portal import htmx
from portal.services import orgs
from portal.unit_of_work import session
from portal.views import access

pages = Blueprint("home", __name__)


@pages.get("/")
def index() -> Response | str:
    """Operators land on their overview, members in the organization they used last, or their only one."""
    person = access.user()
    mine = orgs.of_user(session(), person)
    last = next((org for org in mine if org.id == person.last_org_id), None)
    if last is None and person.is_platform_admin:
        return htmx.see_other(url_for("admin_overview.index"))
    if last is None and len(mine) != 1:
        return render_template("home.html", orgs=mine)
    return htmx.see_other(url_for("org.home", slug=(last or mine[0]).slug))
