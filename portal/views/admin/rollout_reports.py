"""Reports of rollouts: one for printing, and two beside each other. Used by operators."""

from __future__ import annotations

from flask import Blueprint, Response, request

from portal.models import Rollout, utcnow
from portal.services.audit import log
from portal.services.rollouts import report, rollouts
from portal.views.admin.rollout_page import RolloutPage
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_rollout_reports", __name__, url_prefix="/admin/rollouts")


@pages.get("/<rollout_id>/report")
def show(rollout_id: str) -> Response:
    """Show what happened in a rollout on one page, for printing."""
    authorization.require_operator()
    rollout = rollouts.get_rollout(session(), rollout_id)
    return htmx.page(
        "admin/rollout_report.html",
        report=_load(rollout),
        view=RolloutPage(rollout),
        events=log.list_for_rollout(session(), rollout),
    )


@pages.get("/<rollout_id>/compare")
def compare(rollout_id: str) -> Response:
    """Show two rollouts of the same image beside each other; without a second one, the latest other one."""
    authorization.require_operator()
    rollout = rollouts.get_rollout(session(), rollout_id)
    others = report.list_comparable(session(), rollout)
    wanted = request.args.get("with")
    other = next((found for found in others if wanted in {None, found.id}), None)
    return htmx.page(
        "admin/rollout_compare.html",
        rollout=rollout,
        others=others,
        reports=[_load(rollout), _load(other)] if other else [],
    )


def _load(rollout: Rollout) -> report.RolloutReport:
    timeout = configuration.current_settings().health_check_timeout
    return report.load_report(session(), rollout, utcnow(), timeout)
