"""Pages of rollouts: the list, live progress, and what operators do about a rollout. Used by operators."""

from __future__ import annotations

from flask import Blueprint, Response, flash, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from portal.forms.rollouts import AbortForm
from portal.models import Rollout, utcnow
from portal.services.rollouts import page_versions, progress, rollout_list, rollouts, transitions, update_list
from portal.views.admin.rollout_page import RolloutPage
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_rollouts", __name__, url_prefix="/admin/rollouts")

Answer = BaseResponse | tuple[BaseResponse, int]


@pages.get("")
def index() -> Answer:
    """Show the open rollouts, and a page of those that have ended."""
    authorization.require_operator()
    now = utcnow()
    still_open = rollout_list.list_open_rollouts(session())
    ended = rollout_list.load_ended_rollouts(session(), request.args.get("page", 1, type=int))
    shown = [*still_open, *ended.lines]
    version = page_versions.find_list_version(session(), shown, now)
    if htmx.is_unchanged(version):
        return htmx.unchanged()
    timeout = configuration.current_settings().health_check_timeout
    return htmx.page(
        "admin/rollouts.html",
        live={"list": "admin/_rollout_list.html"},
        data_version=version,
        still_open=still_open,
        ended=ended,
        summaries=progress.summarize_all(session(), shown, now, timeout),
    )


@pages.get("/<rollout_id>")
def show(rollout_id: str) -> Answer:
    """Show one rollout, live until it has ended."""
    authorization.require_operator()
    rollout = rollouts.get_rollout(session(), rollout_id)
    version = page_versions.find_version(session(), rollout, utcnow())
    if htmx.is_unchanged(version):
        return htmx.unchanged()
    return _page(rollout, AbortForm(), version)


@pages.get("/<rollout_id>/bots/<update_id>/log")
def log(rollout_id: str, update_id: str) -> Answer:
    """Show the last log lines of a new container that did not become healthy."""
    authorization.require_operator()
    rollout = rollouts.get_rollout(session(), rollout_id)
    return htmx.page(
        "admin/rollout_log.html",
        parts={"log": "admin/_rollout_log.html"},
        update=update_list.get_update(session(), rollout, update_id),
    )


@pages.post("/<rollout_id>/pause")
def pause(rollout_id: str) -> Answer:
    """Pause a rollout: updates in progress finish, no other starts."""
    operator = authorization.require_operator()
    transitions.pause_rollout(
        session(),
        rollouts.get_rollout(session(), rollout_id),
        f"paused by {operator.name}",
        utcnow(),
        actor=operator,
    )
    return _redirect_to(rollout_id, "Rollout paused. Updates in progress finish; no other update starts.")


@pages.post("/<rollout_id>/resume")
def resume(rollout_id: str) -> Answer:
    """Resume a paused rollout."""
    operator = authorization.require_operator()
    transitions.resume_rollout(session(), rollouts.get_rollout(session(), rollout_id), utcnow(), actor=operator)
    return _redirect_to(rollout_id, "Rollout resumed.")


@pages.post("/<rollout_id>/skip-pause")
def skip_pause(rollout_id: str) -> Answer:
    """Start the next wave without the rest of the pause."""
    operator = authorization.require_operator()
    transitions.skip_pause(session(), rollouts.get_rollout(session(), rollout_id), utcnow(), actor=operator)
    return _redirect_to(rollout_id, "The next wave starts now.")


@pages.post("/<rollout_id>/ignore-windows")
def ignore_windows(rollout_id: str) -> Answer:
    """Start the rest of a rollout outside the update hours."""
    operator = authorization.require_operator()
    transitions.ignore_windows(session(), rollouts.get_rollout(session(), rollout_id), actor=operator)
    return _redirect_to(rollout_id, "The rollout ignores update hours from now on.")


@pages.post("/<rollout_id>/abort")
def abort(rollout_id: str) -> Answer:
    """Abort a rollout, and quarantine its release if the form says so."""
    operator = authorization.require_operator()
    rollout = rollouts.get_rollout(session(), rollout_id)
    form = AbortForm()
    if not form.validate():
        return _page(rollout, form), 422
    transitions.abort_rollout(
        session(), rollout, form.reason.data, utcnow(), actor=operator, quarantine=form.quarantine.data
    )
    return _redirect_to(rollout_id, "Rollout aborted. Updates in progress finish; no other bot is updated.")


@pages.post("/<rollout_id>/retry")
def retry(rollout_id: str) -> Answer:
    """Start a new rollout with the failed bots of this one."""
    operator = authorization.require_operator()
    new_rollout = rollouts.retry_failed(
        session(),
        configuration.current_allowlist(),
        rollouts.get_rollout(session(), rollout_id),
        utcnow(),
        actor=operator,
    )
    return _redirect_to(new_rollout.id, "Rollout of the failed bots started.")


def _redirect_to(rollout_id: str, message: str) -> BaseResponse:
    flash(message, "info")
    return htmx.see_other(url_for("admin_rollouts.show", rollout_id=rollout_id))


def _page(rollout: Rollout, form: AbortForm, version: str = "") -> Response:
    return htmx.page(
        "admin/rollout.html",
        live={"progress": "admin/_rollout_progress.html"},
        parts={
            "updates": "admin/_rollout_updates.html",
            "controls": "admin/_rollout_controls.html",
            "chart": "admin/_rollout_chart.html",
        },
        data_version=version,
        view=RolloutPage(rollout),
        form=form,
    )
