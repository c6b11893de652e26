"""The settings of the fleet as a whole."""

from __future__ import annotations

from flask import Blueprint, flash, url_for
from werkzeug.wrappers import Response

from portal.forms.fleet_settings import FleetForm
from portal.models import FleetMode, StrategyName, TenantMode
from portal.services import fleet_settings
from portal.services.errors import InvalidError, StaleError
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_settings", __name__, url_prefix="/admin/settings")

Answer = Response | tuple[Response, int]


@pages.get("")
def index() -> Answer:
    """Mode, strategy, and what holds for organizations that chose nothing."""
    authorization.require_operator()
    return _page()


@pages.post("")
def save() -> Answer:
    """Set all of it; what stays as it was leaves no trace."""
    operator = authorization.require_operator()
    form = FleetForm()
    if not form.validate():
        return _page(form), 422
    try:
        fleet_settings.require_current_version(session(), form.version.data)
        fleet_settings.set_mode(session(), FleetMode(form.mode.data), operator)
        fleet_settings.set_strategy(
            session(), StrategyName(form.strategy.data), form.parameters(), form.max_parallel.data, operator
        )
        fleet_settings.set_tenant_defaults(
            session(), TenantMode(form.tenant_mode.data), form.tenant_hour_utc.data, operator
        )
    except StaleError as error:
        return _page(refusal=str(error)), 409
    except InvalidError as error:
        session().rollback()
        form[error.field].errors = [str(error)]
        return _page(form), 422
    flash("The settings are saved.", "info")
    return htmx.see_other(url_for("admin_settings.index"))


def _page(form: FleetForm | None = None, refusal: str = "") -> Response:
    return htmx.page("admin/settings.html", form=form or _stored(), refusal=refusal)


def _stored() -> FleetForm:
    now = fleet_settings.get_settings(session())
    return FleetForm(
        formdata=None,
        mode=str(now.mode),
        strategy=str(now.strategy),
        max_parallel=now.max_parallel,
        tenant_mode=str(now.tenant_mode),
        tenant_hour_utc=now.tenant_hour_utc,
        version=now.version,
        **now.parameters,
    )
