"""The address without a path: on to where the visitor's work is."""

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
    """Operators land on their overview, members in their only organization, or in the one used last.

    Which one that was this browser remembers, so with several the list is answered and its script goes on from
    there; a browser new to it goes on to the one that was made or joined last. Without script the list stays.
    """
    person = authorization.require_user()
    if person.is_platform_admin:
        return htmx.see_other(url_for("admin_overview.index"))
    access = orgs.list_for_user(session(), person)
    if len(access) == 1:
        return htmx.see_other(url_for("org.home", slug=access[0].slug))
    last = next((org.slug for org in access if org.id == person.last_org_id), "")
    return render_template("org/list.html", orgs=access, fallback=last)
