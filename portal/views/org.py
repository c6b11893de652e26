"""An organization's own pages."""

from __future__ import annotations

from flask import Blueprint, Response

from portal import htmx
from portal.models import utcnow
from portal.services import inventory, notices
from portal.unit_of_work import session
from portal.views import access

pages = Blueprint("org", __name__, url_prefix="/o/<slug>")


@pages.get("/")
def home(slug: str) -> Response:
    """Its bots as cards: state, version, badge, and how far an update is."""
    mine = access.org(slug)
    return htmx.page(
        "org/home.html",
        live={"bots": "org/_bots.html"},
        access=mine,
        org=mine.org,
        lines=inventory.of_org(session(), mine.org),
        put_off=notices.put_off(session(), mine.user, utcnow()),
    )
