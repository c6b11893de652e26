"""Static files of third-party packages, served from `node_modules`. Used by all pages."""

from __future__ import annotations

from flask import Blueprint, Response, abort, send_file

from portal.web.static_files import VENDOR

pages = Blueprint("assets", __name__)


@pages.get("/vendor/<name>")
def vendor(name: str) -> Response:
    """Send one of the files in `VENDOR`."""
    path = VENDOR.get(name)
    if path is None or not path.exists():
        abort(404)
    return send_file(path)
