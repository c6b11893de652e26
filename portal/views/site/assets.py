"""Files of other people's packages, served from where npm put them: exactly those that pages use."""

from __future__ import annotations

from flask import Blueprint, Response, abort, send_file

from portal.web.templating import VENDOR

pages = Blueprint("assets", __name__)


@pages.get("/vendor/<name>")
def vendor(name: str) -> Response:
    """One of the files in `VENDOR`; browsers keep it for a year, for its address carries a hash of its content."""
    path = VENDOR.get(name)
    if path is None or not path.exists():
        abort(404)
    return send_file(path)
