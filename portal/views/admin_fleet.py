"""All bots of the platform."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, Response, request

from portal import htmx
from portal.services import inventory
from portal.services.inventory import Filter
from portal.unit_of_work import session
from portal.views import access

pages = Blueprint("admin_fleet", __name__, url_prefix="/admin/fleet")


@pages.get("")
def index() -> Response:
    """Search and narrow; an address that makes no sense shows everything."""
    access.operator()
    text = request.args.get("q", "")
    narrowed = Filter.ALL
    with suppress(ValueError):
        narrowed = Filter(request.args.get("show", Filter.ALL))
    page = request.args.get("page", 1, type=int)
    return htmx.page(
        "admin/fleet.html",
        parts={"bots": "admin/_bots.html"},
        listing=inventory.search(session(), text, narrowed, page),
        text=text,
        narrowed=narrowed,
        filters=list(Filter),
    )
