"""Page with the state of the fleet at a glance, and the switch of the fleet's mode. Used by operators."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, current_app, flash, request, url_for
from werkzeug.wrappers import Response

from portal.forms.fleet_settings import FLEET_MODES
from portal.models import FleetMode, utcnow
from portal.queue import count_waiting
from portal.services import fleet_settings
from portal.services.bots.overview import find_version, load_overview
from portal.services.errors import InvalidError
from portal.services.rollouts import outcome_history
from portal.services.rollouts.progress import summarize_all
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.charts import ColumnChart, Series
from portal.web.unit_of_work import session

pages = Blueprint("admin_overview", __name__, url_prefix="/admin")


@pages.get("/")
def index() -> Response:
    """Show running rollouts, failed updates, what needs attention, and the mode of the fleet."""
    authorization.require_operator()
    now = utcnow()
    version = find_version(session(), now)
    if htmx.is_unchanged(version):
        return htmx.unchanged()
    overview = load_overview(session(), now)
    timeout = configuration.current_settings().health_check_timeout
    return htmx.page(
        "admin/overview.html",
        live={"state": "admin/_overview_state.html"},
        data_version=version,
        overview=overview,
        summaries=summarize_all(session(), overview.rollouts, now, timeout),
        mode=fleet_settings.get_settings(session()).mode,
        modes=FLEET_MODES,
        sends_mail=bool(configuration.current_settings().mail.server),
        waiting_jobs=count_waiting(current_app.extensions["redis"]),
        # The chart is not in the live part, whose refreshes would read the updates of a month each time.
        history=None if htmx.is_fragment() else _build_history(now),
    )


@pages.post("/mode")
def set_mode() -> Response:
    """Set the mode of the fleet."""
    operator = authorization.require_operator()
    try:
        mode = FleetMode(request.form.get("mode", ""))
    except ValueError:
        raise InvalidError("Choose automatic, manual or paused.", "mode") from None
    fleet_settings.set_mode(session(), mode, utcnow(), actor=operator)
    flash(f"{FLEET_MODES[mode]}.", "info")
    return htmx.see_other(url_for("admin_overview.index"))


def _build_history(now: datetime) -> ColumnChart:
    days = outcome_history.list_outcomes(session(), now)
    return ColumnChart(
        f"Rollouts of the last {outcome_history.DAYS} days",
        "Day",
        [f"{outcomes.day:%Y-%m-%d}" for outcomes in days],
        [
            Series("updated", "updated", [outcomes.updated for outcomes in days]),
            Series("rolled back or failed", "failed", [outcomes.failed for outcomes in days]),
            Series("skipped", "skipped", [outcomes.skipped for outcomes in days]),
        ],
    )
