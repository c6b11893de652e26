"""The form of a new rollout: choose bots, preview, start. Used by operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, flash, request, url_for
from werkzeug.wrappers import Response as BaseResponse
from wtforms import SelectChoice

from portal.forms.rollouts import RolloutForm
from portal.models import Audience, Bot, utcnow
from portal.rules.strategies import StrategyName
from portal.services.bots import bot_list
from portal.services.errors import ConflictError, InvalidError, ServiceError
from portal.services.releases import release_list, releases
from portal.services.rollouts import forecast, rollouts, selection
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_new_rollout", __name__, url_prefix="/admin/rollouts/new")

Answer = BaseResponse | tuple[BaseResponse, int]

_CHECK_FIELDS = "Check the highlighted fields."


@pages.get("")
def form() -> Answer:
    """Show the form of a new rollout beside a preview of it."""
    authorization.require_operator()
    values = request.args if "strategy" in request.args else None
    filled = _form(values)
    return _new_page(filled, "" if values is None or filled.validate() else _CHECK_FIELDS)


@pages.post("")
def start() -> Answer:
    """Start the rollout that the page previewed."""
    operator = authorization.require_operator()
    form = _form(request.form)
    if not form.validate():
        return _new_page(form, _CHECK_FIELDS), 422
    try:
        rollout = rollouts.start_rollout(
            session(), configuration.current_allowlist(), _build_request(form), utcnow(), actor=operator
        )
    except InvalidError as error:
        session().rollback()
        return _new_page(form, _show_error(form, error)), 422
    except ConflictError as error:  # The fleet changed since the page was opened. The form keeps its values.
        session().rollback()
        return _new_page(form, error.for_operators), 409
    flash(f"Rollout of {rollout.release.version} started.", "info")
    return htmx.go_to(url_for("admin_rollouts.show", rollout_id=rollout.id))


def _form(values: Any) -> RolloutForm:
    # The preview sends the form by GET, without a token. The token of a POST is checked before the view starts.
    form = RolloutForm(values, meta={"csrf": False})
    form.release.choices = [
        SelectChoice(
            line.release.id, f"{line.release.version} · {line.release.image} · {line.release.first_seen_at:%Y-%m-%d}"
        )
        for line in release_list.list_releases(session())
        if line.release.quarantined_at is None
    ]
    if values is None:
        preselected = request.args.get("release")
        form.release.data = preselected or next((choice.value for choice in form.release.choices), None)
    form.bots.choices = [SelectChoice(bot.id, f"{bot.name} · {bot.org.name}") for bot in _bots_of_release(form)]
    return form


def _bots_of_release(form: RolloutForm) -> Sequence[Bot]:
    if form.release.data not in {choice.value for choice in form.release.choices}:
        return ()
    release = releases.get_release(session(), form.release.data)
    return bot_list.list_for_repository(session(), release.repository)


def _new_page(form: RolloutForm, refusal: str = "") -> Response:
    """Render the form beside its preview. A refusal replaces the preview."""
    preview = None
    if not refusal and form.release.data:
        try:
            preview = forecast.forecast_rollout(
                session(), configuration.current_allowlist(), _build_request(form), utcnow()
            )
        except ServiceError as error:
            refusal = _show_error(form, error)
    return htmx.page(
        "admin/rollout_new.html",
        parts={"outlook": "admin/_forecast.html"},
        form=form,
        forecast=preview,
        refusal=refusal,
    )


def _show_error(form: RolloutForm, error: ServiceError) -> str:
    """Add an error to the field it names, if any, and return its message."""
    if isinstance(error, InvalidError) and error.field in form:
        form[error.field].errors = [error.for_operators]
    return error.for_operators


def _build_request(form: RolloutForm) -> selection.RolloutRequest:
    return selection.RolloutRequest(
        release=releases.get_release(session(), form.release.data),
        strategy=StrategyName(form.strategy.data),
        parameters=form.parameters(),
        audience=Audience(form.audience.data),
        bots=bot_list.load_by_ids(session(), form.bots.data or []),
        ignore_windows=form.ignore_windows.data,
    )
