"""Page with all bots of the platform. Used by operators."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, Response, request

from portal.services.bots import bot_list
from portal.services.bots.bot_list import BotFilter
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_fleet", __name__, url_prefix="/admin/fleet")

_FILTER_LABELS = {
    BotFilter.ALL: "All bots",
    BotFilter.OUTDATED: "Update available",
    BotFilter.UPDATING: "Updating now",
    BotFilter.UNHEALTHY: "Not healthy",
    BotFilter.STOPPED: "Stopped",
    BotFilter.ATTENTION: "Needs attention",
    BotFilter.CREATING: "Being created",
    BotFilter.REMOVING: "Being removed",
}


@pages.get("")
def index() -> Response:
    """Show the bots that match the search and the filter; an unknown filter shows all bots."""
    authorization.require_operator()
    text = request.args.get("q", "")
    bot_filter = BotFilter.ALL
    with suppress(ValueError):
        bot_filter = BotFilter(request.args.get("show", BotFilter.ALL))
    page = request.args.get("page", 1, type=int)
    return htmx.page(
        "admin/fleet.html",
        parts={"bots": "admin/_bots.html"},
        listing=bot_list.search_bots(session(), text, bot_filter, page),
        text=text,
        bot_filter=bot_filter,
        filter_labels=_FILTER_LABELS,
    )
