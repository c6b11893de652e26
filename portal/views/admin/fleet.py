"""All bots of the platform."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, Response, request

from portal.services.bots import bot_list
from portal.services.bots.bot_list import BotFilter
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_fleet", __name__, url_prefix="/admin/fleet")


@pages.get("")
def index() -> Response:
    """Search and narrow; an address that makes no sense shows everything."""
    authorization.require_operator()
    text = request.args.get("q", "")
    narrowed = BotFilter.ALL
    with suppress(ValueError):
        narrowed = BotFilter(request.args.get("show", BotFilter.ALL))
    page = request.args.get("page", 1, type=int)
    return htmx.page(
        "admin/fleet.html",
        parts={"bots": "admin/_bots.html"},
        listing=bot_list.search_bots(session(), text, narrowed, page),
        text=text,
        narrowed=narrowed,
        filters=list(BotFilter),
    )
