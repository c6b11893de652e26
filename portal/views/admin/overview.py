"""The operators' first page."""

from __future__ import annotations

from flask import Blueprint, flash, request, url_for
from werkzeug.wrappers import Response

from portal.models import FleetMode, utcnow
from portal.services import fleet_settings
from portal.services.bots.overview import load_overview
from portal.services.errors import InvalidError
from portal.services.rollouts.progress import summarize
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_overview", __name__, url_prefix="/admin")

_SAID = {
    FleetMode.AUTO: "The fleet is automatic: organizations that want it are updated in their hour.",
    FleetMode.MANUAL: "The fleet is manual: nothing is updated unless somebody asks.",
    FleetMode.PAUSED: "The fleet is paused: no update starts. Bots in flight finish.",
}


@pages.get("/")
def index() -> Response:
    """What is running, what failed, what needs a person, and the fleet's mode."""
    authorization.require_operator()
    seen = load_overview(session(), utcnow())
    return htmx.page(
        "admin/overview.html",
        live={"state": "admin/_overview_state.html"},
        seen=seen,
        summaries={rollout.id: summarize(session(), rollout) for rollout in seen.rollouts},
        mode=fleet_settings.get_settings(session()).mode,
        modes=_SAID,
    )


@pages.post("/mode")
def set_mode() -> Response:
    """Switch the whole fleet."""
    operator = authorization.require_operator()
    try:
        mode = FleetMode(request.form.get("mode", ""))
    except ValueError:
        raise InvalidError("Choose automatic, manual or paused.", "mode") from None
    fleet_settings.set_mode(session(), mode, operator)
    flash(_SAID[mode], "info")
    return htmx.see_other(url_for("admin_overview.index"))
