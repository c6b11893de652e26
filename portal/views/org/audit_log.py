"""Audit log page of an organization, for its owner, its admins and operators."""

from __future__ import annotations

from flask import Blueprint, Response

from portal.policy import Action
from portal.services.audit import log
from portal.views.support import authorization, event_log
from portal.web.unit_of_work import session

pages = Blueprint("audit", __name__, url_prefix="/o/<slug>/audit")


@pages.get("")
def index(slug: str) -> Response:
    """Show the events of the organization, the newest first."""
    access = authorization.require_org(slug, Action.READ_AUDIT)
    return event_log.render_event_log(
        "org/audit_log.html",
        lambda filters, before: log.list_for_org(session(), access.org, filters, before),
        access=access,
        org=access.org,
        subjects=log.ORG_SUBJECTS,
        everywhere=False,
    )
