"""Health check of the portal. Used by supervisors and load balancers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from portal.database import is_reachable
from portal.web.unit_of_work import session

pages = Blueprint("health", __name__)


@pages.get("/healthz")
def healthz() -> tuple[Response, int]:
    """Answer 200 if the database answers, else 503. Redis is not checked, because the portal works without it."""
    if is_reachable(session()):
        return jsonify(status="ok"), 200
    return jsonify(status="the database does not answer"), 503
