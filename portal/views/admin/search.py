"""Search over everything that operators know, and the help on keyboard shortcuts. Used by dialogs of every page."""

from __future__ import annotations

from flask import Blueprint, request
from werkzeug.wrappers import Response

from portal.services import global_search
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_search", __name__, url_prefix="/admin/search")

MAX_LENGTH = 100


@pages.get("")
def index() -> Response:
    """Show what a text finds."""
    authorization.require_operator()
    text = request.args.get("q", "")[:MAX_LENGTH]
    return htmx.page(
        "admin/search.html",
        parts={"results": "admin/_search_results.html", "dialog": "admin/_search_dialog.html"},
        text=text,
        results=global_search.search(session(), text),
    )


@pages.get("/shortcuts")
def shortcuts() -> Response:
    """Show the keyboard shortcuts."""
    authorization.require_operator()
    return htmx.page("admin/shortcuts.html", parts={"dialog": "admin/_shortcuts.html"})
