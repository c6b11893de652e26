"""Whether this process works, for supervisors and load balancers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from portal.database import is_reachable
from portal.web.unit_of_work import session

pages = Blueprint("health", __name__)


@pages.get("/healthz")
def healthz() -> tuple[Response, int]:
    """200 while the database answers, else 503. Without Redis the portal works, so that is not asked."""
    if is_reachable(session()):
        return jsonify(status="ok"), 200
    return jsonify(status="the database does not answer"), 503
