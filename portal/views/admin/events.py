"""Page with the event log of the whole platform. Used by operators."""

from __future__ import annotations

from flask import Blueprint, Response

from portal.services.audit import log
from portal.views.support import authorization, event_log
from portal.web.unit_of_work import session

pages = Blueprint("admin_events", __name__, url_prefix="/admin/events")


@pages.get("")
def index() -> Response:
    """Show all events, the newest first, narrowed by the filters in the query string."""
    authorization.require_operator()
    return event_log.render_event_log(
        "admin/events.html",
        lambda event_filter, before: log.list_all(session(), event_filter, before),
        subjects=log.SUBJECTS,
        everywhere=True,
    )
