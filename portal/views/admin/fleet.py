"""Page with all bots of the platform: search, saved views, export. Used by operators."""

from __future__ import annotations

from flask import Blueprint, Response, flash, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from portal.models import utcnow
from portal.services.bots import fleet_search, labels, saved_views
from portal.services.errors import InvalidError
from portal.views.support import authorization, fleet_export, fleet_page
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_fleet", __name__, url_prefix="/admin/fleet")


@pages.get("")
def index() -> Response:
    """Show the bots that match the filters, in the chosen order; unknown values do not filter."""
    authorization.require_operator()
    return fleet_page.render()


@pages.get("/bots.csv")
def export() -> Response:
    """Download all bots that match the filters as CSV."""
    authorization.require_operator()
    found = fleet_search.list_all(session(), fleet_page.read_filter(), utcnow())
    return fleet_export.build_csv(found, labels.load_all(session()))


@pages.post("/views")
def save_view() -> BaseResponse:
    """Save the filters and the order in the query string under a name."""
    operator = authorization.require_operator()
    try:
        view = saved_views.save_view(
            session(), request.form.get("name", ""), fleet_page.read_url_args(), now=utcnow(), actor=operator
        )
    except InvalidError as error:
        flash(error.for_operators, "error")
    else:
        flash(f"View {view.name} saved. All operators see it.", "info")
    return htmx.see_other(fleet_page.build_url())


@pages.post("/views/<view_id>/delete")
def delete_view(view_id: str) -> BaseResponse:
    """Delete a saved view."""
    operator = authorization.require_operator()
    view = saved_views.delete_view(session(), view_id, actor=operator)
    flash(f"View {view.name} deleted.", "info")
    return htmx.see_other(url_for("admin_fleet.index"))
