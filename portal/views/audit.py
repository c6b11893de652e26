"""The log of one organization."""

from __future__ import annotations

from flask import Blueprint, Response

from portal.policy import Action
from portal.services import audit
from portal.unit_of_work import session
from portal.views import access, log_page

pages = Blueprint("audit", __name__, url_prefix="/o/<slug>/audit")


@pages.get("")
def index(slug: str) -> Response:
    """Who did what, when and from where, the newest first."""
    mine = access.org(slug, Action.READ_AUDIT)
    return log_page.show(
        "org/audit.html",
        lambda wanted, before: audit.of_org(session(), mine.org, wanted, before),
        access=mine,
        org=mine.org,
        subjects=audit.SUBJECTS_OF_ORGS,
        everywhere=False,
    )
