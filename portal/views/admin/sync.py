"""Pages with the member sync of all bots and of one bot, for operators, who can retry, resync and allow removals."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, request
from werkzeug.wrappers import Response

from portal.services.bots import nodes, sync_details, sync_list
from portal.services.bots.sync_list import BotSyncState, SyncFilter
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_sync", __name__, url_prefix="/admin/sync")


@pages.get("")
def index() -> Response:
    """Show the bots that match the filters; an unknown state shows all bots."""
    authorization.require_operator()
    wanted = _read_filter()
    return htmx.page(
        "admin/sync.html",
        live={"syncs": "admin/_syncs.html"},
        listing=sync_list.search_syncs(session(), wanted, request.args.get("page", 1, type=int)),
        counts=sync_list.count_by_state(session(), wanted),
        wanted=wanted,
        filters=_list_filters(wanted),
        nodes=[node for node, _ in nodes.list_with_bot_counts(session())],
    )


@pages.get("/<bot_id>")
def show(bot_id: str) -> Response:
    """Show the member sync of one bot with its people."""
    authorization.require_operator()
    row = sync_details.get_bot(session(), bot_id)
    return htmx.page(
        "admin/sync_bot.html",
        live={"sync": "admin/_sync_bot.html"},
        row=row,
        people=sync_details.list_people(session(), row.bot, request.args.get("page", 1, type=int)),
    )


def _read_filter() -> SyncFilter:
    state = None
    with suppress(ValueError):
        state = BotSyncState(request.args.get("state", ""))
    args = request.args
    return SyncFilter(state, args.get("node", ""), args.get("org", ""), args.get("q", ""))


def _list_filters(wanted: SyncFilter) -> dict[str, str]:
    """Return the arguments of the URL that repeat a filter, except its state."""
    filters = {"node": wanted.node_id, "org": wanted.org, "q": wanted.text}
    return {name: value for name, value in filters.items() if value}
