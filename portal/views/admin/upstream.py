"""Page about the nightly sync of the bot's fork with its upstream. Used by operators."""

from __future__ import annotations

from flask import Blueprint
from werkzeug.wrappers import Response

from portal.models import utcnow
from portal.services import fork_syncs
from portal.views.support import authorization
from portal.views.support.configuration import current_settings
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_upstream", __name__, url_prefix="/admin/upstream")


@pages.get("")
def index() -> Response:
    """Show the result of the last sync, and a list of the syncs before it."""
    authorization.require_operator()
    upstream = current_settings().upstream
    return htmx.page(
        "admin/upstream.html",
        is_configured=upstream.repo is not None,
        opens_pull_requests=bool(upstream.forge_token),
        next_sync=fork_syncs.next_moment(upstream.time_of_day, utcnow()),
        syncs=fork_syncs.list_recent(session()),
    )
