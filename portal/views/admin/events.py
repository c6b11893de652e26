"""The log of everything."""

from __future__ import annotations

from flask import Blueprint, Response

from portal.services.audit import log
from portal.views.support import authorization, event_log
from portal.web.unit_of_work import session

pages = Blueprint("admin_events", __name__, url_prefix="/admin/events")


@pages.get("")
def index() -> Response:
    """Whatever happened on the platform, the newest first."""
    authorization.require_operator()
    return event_log.render_event_log(
        "admin/events.html",
        lambda wanted, before: log.list_all(session(), wanted, before),
        subjects=log.SUBJECTS,
        everywhere=True,
    )
