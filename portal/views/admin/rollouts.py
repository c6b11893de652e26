"""Rollouts: start one with its outlook in sight, watch it live, pause, resume, abort, try again."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, request, url_for
from werkzeug.wrappers import Response as BaseResponse
from wtforms import SelectChoice

from portal.forms.rollouts import AbortForm, RolloutForm
from portal.models import Audience, Rollout, StrategyName
from portal.services.bots import bot_list
from portal.services.errors import ConflictError, InvalidError, ServiceError
from portal.services.releases import release_list, releases
from portal.services.rollouts import forecast, progress, rollouts, selection, transitions
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_rollouts", __name__, url_prefix="/admin/rollouts")

Answer = BaseResponse | tuple[BaseResponse, int]

_MARKED = "Put right what is marked."


@pages.get("")
def index() -> Answer:
    """Every rollout, those under way first."""
    authorization.require_operator()
    found = rollouts.list_recent_rollouts(session())
    words = progress.describe_all(session(), found)
    return htmx.page("admin/rollouts.html", live={"list": "admin/_rollout_list.html"}, rollouts=found, words=words)


@pages.get("/new")
def new() -> Answer:
    """Choose what, to whom and how, and see what would happen; nothing starts before that was seen."""
    authorization.require_operator()
    values = request.args if "strategy" in request.args else None
    form = _form(values)
    return _new_page(form, "" if values is None or form.validate() else _MARKED)


@pages.post("/new")
def start() -> Answer:
    """Start what the page showed."""
    operator = authorization.require_operator()
    form = _form(request.form)
    if not form.validate():
        return _new_page(form, _MARKED), 422
    try:
        rollout = rollouts.start_rollout(session(), configuration.current_allowlist(), _wish(form), actor=operator)
    except InvalidError as error:
        session().rollback()
        return _new_page(form, _noted(form, error)), 422
    except ConflictError as error:  # the fleet moved on since the page was opened; what was chosen is not lost
        session().rollback()
        return _new_page(form, str(error)), 409
    flash(f"The rollout of {rollout.release.version} has begun.", "info")
    return htmx.go_to(url_for("admin_rollouts.show", rollout_id=rollout.id))


@pages.get("/<rollout_id>")
def show(rollout_id: str) -> Answer:
    """One rollout, live until it has ended."""
    authorization.require_operator()
    return _page(rollouts.get_rollout(session(), rollout_id), AbortForm())


@pages.post("/<rollout_id>/pause")
def pause(rollout_id: str) -> Answer:
    """Begin with no further bot."""
    operator = authorization.require_operator()
    transitions.pause_rollout(
        session(), rollouts.get_rollout(session(), rollout_id), f"paused by {operator.name}", operator
    )
    return _back(rollout_id, "Paused. Bots in flight finish; no other starts.")


@pages.post("/<rollout_id>/resume")
def resume(rollout_id: str) -> Answer:
    """Go on."""
    operator = authorization.require_operator()
    transitions.resume_rollout(session(), rollouts.get_rollout(session(), rollout_id), operator)
    return _back(rollout_id, "The rollout goes on.")


@pages.post("/<rollout_id>/abort")
def abort(rollout_id: str) -> Answer:
    """End it for good, perhaps with its release."""
    operator = authorization.require_operator()
    rollout = rollouts.get_rollout(session(), rollout_id)
    form = AbortForm()
    if not form.validate():
        return _page(rollout, form), 422
    transitions.abort_rollout(session(), rollout, form.reason.data, operator, quarantine=form.quarantine.data)
    return _back(rollout_id, "Aborted. Bots in flight finish; the others stay as they are.")


@pages.post("/<rollout_id>/retry")
def retry(rollout_id: str) -> Answer:
    """Try the failed ones once more, in a rollout of their own."""
    operator = authorization.require_operator()
    again = rollouts.retry_failed(
        session(), configuration.current_allowlist(), rollouts.get_rollout(session(), rollout_id), operator
    )
    return _back(again.id, "A rollout of the failed bots has begun.")


def _back(rollout_id: str, said: str) -> BaseResponse:
    flash(said, "info")
    return htmx.see_other(url_for("admin_rollouts.show", rollout_id=rollout_id))


def _page(rollout: Rollout, form: AbortForm) -> Response:
    return htmx.page(
        "admin/rollout.html",
        live={"progress": "admin/_rollout_progress.html"},
        parts={"updates": "admin/_rollout_updates.html", "controls": "admin/_rollout_controls.html"},
        rollout=rollout,
        summary=progress.summarize(session(), rollout),
        is_open=rollout.state in Rollout.OPEN,
        form=form,
    )


def _form(values: Any) -> RolloutForm:
    # Its values travel by GET too. Tokens of posts were checked before the view began.
    form = RolloutForm(values, meta={"csrf": False})
    form.release.choices = [
        SelectChoice(
            line.release.id, f"{line.release.version} · {line.release.image} · {line.release.first_seen_at:%Y-%m-%d}"
        )
        for line in release_list.list_releases(session())
        if line.release.quarantined_at is None
    ]
    if values is None:
        wanted = request.args.get("release")
        form.release.data = wanted or next((choice.value for choice in form.release.choices), None)
    form.bots.choices = [SelectChoice(bot.id, f"{bot.name} · {bot.org.name}") for bot in _followers(form)]
    return form


def _followers(form: RolloutForm) -> list[Any]:
    known = {choice.value for choice in form.release.choices}
    if form.release.data not in known:
        return []
    return list(
        bot_list.list_for_repository(session(), releases.get_release(session(), form.release.data).repository)
    )


def _new_page(form: RolloutForm, refusal: str = "") -> Response:
    """The form beside what it would do. A refusal is shown where the outlook would be."""
    outlook = None
    if not refusal and form.release.data:
        try:
            outlook = forecast.forecast_rollout(session(), configuration.current_allowlist(), _wish(form))
        except ServiceError as error:
            refusal = _noted(form, error)
    return htmx.page(
        "admin/rollout_new.html",
        parts={"outlook": "admin/_forecast.html"},
        form=form,
        outlook=outlook,
        refusal=refusal,
    )


def _noted(form: RolloutForm, error: ServiceError) -> str:
    """The error's words, which are put beside their field too where they have one."""
    if isinstance(error, InvalidError) and error.field in form:
        form[error.field].errors = [str(error)]
    return str(error)


def _wish(form: RolloutForm) -> selection.RolloutRequest:
    return selection.RolloutRequest(
        release=releases.get_release(session(), form.release.data),
        strategy=StrategyName(form.strategy.data),
        parameters=form.parameters(),
        audience=Audience(form.audience.data),
        bots=bot_list.load_by_ids(session(), form.bots.data or []),
        ignore_windows=form.ignore_windows.data,
    )
