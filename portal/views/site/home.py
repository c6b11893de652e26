"""Home page, which redirects to the place where the visitor works. Used by everyone who is signed in."""

from __future__ import annotations

from flask import Blueprint, render_template, url_for
from werkzeug.wrappers import Response

from portal.services.orgs import orgs
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("home", __name__)


@pages.get("/")
def index() -> Response | str:
    """Send operators to the overview and members to their only or last used organization.

    Only the browser knows which organization it used last. With several organizations, the view therefore answers
    with the list, and a script in it redirects: to the last used organization, or in a new browser to the one that
    was created or joined last. Without JavaScript the list stays.
    """
    user = authorization.require_user()
    if user.is_platform_admin:
        return htmx.see_other(url_for("admin_overview.index"))
    own = orgs.list_for_user(session(), user)
    if len(own) == 1:
        return htmx.see_other(url_for("org.home", slug=own[0].slug))
    latest = next((org.slug for org in own if org.id == user.last_org_id), "")
    return render_template("org/list.html", orgs=own, fallback=latest)
