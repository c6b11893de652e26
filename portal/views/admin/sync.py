"""Pages with the member sync of all bots and of one bot, for operators, who can retry, resync and allow removals."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, flash, request, url_for
from werkzeug.wrappers import Response

from portal.models import utcnow
from portal.services.bots import nodes
from portal.services.syncs import bot_people, operations, sync_list
from portal.services.syncs.bot_states import BotSyncState
from portal.services.syncs.sync_list import SyncFilter
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
    row = bot_people.get_bot(session(), bot_id)
    return htmx.page(
        "admin/sync_bot.html",
        live={"sync": "admin/_sync_bot.html"},
        row=row,
        people=bot_people.list_people(session(), row.bot, request.args.get("page", 1, type=int)),
    )


@pages.post("/retry-all")
def retry_all() -> Response:
    """Make all failed calls to all bots due now."""
    authorization.require_operator()
    operations.retry_all(session())
    flash("All failed calls are repeated now.", "info")
    return htmx.see_other(url_for("admin_sync.index"))


@pages.post("/<bot_id>/retry")
def retry_bot(bot_id: str) -> Response:
    """Make all failed calls to one bot due now."""
    authorization.require_operator()
    bot = bot_people.get_bot(session(), bot_id).bot
    operations.retry_bot(session(), bot)
    return _redirect_to(bot_id, f"All failed calls to {bot.name} are repeated now.")


@pages.post("/<bot_id>/people/<row_id>/retry")
def retry_person(bot_id: str, row_id: str) -> Response:
    """Make the next call about one person due now."""
    authorization.require_operator()
    bot = bot_people.get_bot(session(), bot_id).bot
    operations.retry(session(), bot_people.find_row(session(), bot, row_id))
    return _redirect_to(bot_id, f"The call to {bot.name} is repeated now.")


@pages.post("/<bot_id>/resync")
def resync(bot_id: str) -> Response:
    """Send everything to a bot again, as after a restore of its data."""
    operator = authorization.require_operator()
    bot = bot_people.get_bot(session(), bot_id).bot
    operations.resync_bot(session(), bot, utcnow(), actor=operator)
    return _redirect_to(bot_id, f"All members are sent to {bot.name} again.")


@pages.post("/<bot_id>/allow-removals")
def allow_removals(bot_id: str) -> Response:
    """Allow the next comparison to remove the members whom the last one did not remove."""
    operator = authorization.require_operator()
    bot = bot_people.get_bot(session(), bot_id).bot
    count = operations.allow_removals(session(), bot, actor=operator)
    return _redirect_to(bot_id, f"Up to {count} unknown members of {bot.name} are removed now.")


def _redirect_to(bot_id: str, message: str) -> Response:
    flash(message, "info")
    return htmx.see_other(url_for("admin_sync.show", bot_id=bot_id))


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
