"""Page with the settings of the fleet. Used by operators."""

from __future__ import annotations

from flask import Blueprint, flash, url_for
from werkzeug.wrappers import Response

from portal.forms.fleet_settings import FleetForm
from portal.models import FleetMode, TenantMode, utcnow
from portal.rules.strategies import StrategyName
from portal.services import fleet_settings
from portal.services.errors import InvalidError, StaleError
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_settings", __name__, url_prefix="/admin/settings")

Answer = Response | tuple[Response, int]


@pages.get("")
def index() -> Answer:
    """Show the mode, the strategy of automatic rollouts, and the defaults for organizations."""
    authorization.require_operator()
    return _page()


@pages.post("")
def save() -> Answer:
    """Save all settings; a value that does not change is not logged."""
    operator = authorization.require_operator()
    form = FleetForm()
    if not form.validate():
        return _page(form), 422
    try:
        fleet_settings.require_current_version(session(), form.version.data)
        now = utcnow()
        fleet_settings.set_mode(session(), FleetMode(form.mode.data), now, actor=operator)
        fleet_settings.set_strategy(
            session(),
            StrategyName(form.strategy.data),
            form.parameters(),
            form.max_parallel.data,
            now,
            actor=operator,
        )
        fleet_settings.set_tenant_defaults(
            session(), TenantMode(form.tenant_mode.data), form.tenant_hour_utc.data, now, actor=operator
        )
        fleet_settings.set_log_settings(
            session(),
            members_read_logs=form.members_read_logs.data,
            secret_variables=(form.secret_variables.data or "").split(","),
            now=now,
            actor=operator,
        )
    except StaleError as error:
        return _page(refusal=error.for_operators), 409
    except InvalidError as error:
        session().rollback()
        form[error.field].errors = [error.for_operators]
        return _page(form), 422
    flash("Settings saved.", "info")
    return htmx.see_other(url_for("admin_settings.index"))


def _page(form: FleetForm | None = None, refusal: str = "") -> Response:
    return htmx.page("admin/settings.html", form=form or _stored_form(), refusal=refusal)


def _stored_form() -> FleetForm:
    stored = fleet_settings.get_settings(session())
    return FleetForm(
        formdata=None,
        mode=str(stored.mode),
        strategy=str(stored.strategy),
        max_parallel=stored.max_parallel,
        tenant_mode=str(stored.tenant_mode),
        tenant_hour_utc=stored.tenant_hour_utc,
        members_read_logs=stored.members_read_logs,
        secret_variables=", ".join(stored.secret_variables),
        version=stored.version,
        **stored.parameters,
    )
