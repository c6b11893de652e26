"""The log of everything."""

from __future__ import annotations

from flask import Blueprint, Response

from portal.services import audit
from portal.unit_of_work import session
from portal.views import access, log_page

pages = Blueprint("admin_events", __name__, url_prefix="/admin/events")


@pages.get("")
def index() -> Response:
    """Whatever happened on the platform, the newest first."""
    access.operator()
    return log_page.show(
        "admin/events.html",
        lambda wanted, before: audit.everywhere(session(), wanted, before),
        subjects=audit.SUBJECTS,
        everywhere=True,
    )
