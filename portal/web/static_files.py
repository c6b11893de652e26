"""Files that are the same for all visitors: their URLs, and how long browsers keep them. Used by page templates."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from flask import Flask, Response, request, url_for

from portal.paths import ROOT

VENDOR = {"htmx.min.js": ROOT / "node_modules/htmx.org/dist/htmx.min.js"}
"""Files of third-party packages that pages load, by name, in the folder where npm installs them."""

_STATIC = ROOT / "static"
_FOREVER = "public, max-age=31536000, immutable"


def init_app(app: Flask) -> None:
    """Let browsers keep a file for as long as pages link to this version of it."""
    app.after_request(_keep_linked_version)


def asset(name: str) -> str:
    """Return the URL of a file in `static/`. The URL contains a content hash, so browsers can keep the file."""
    return url_for("static", filename=name, v=_content_hash(_STATIC / name))


def vendor(name: str) -> str:
    """Return the URL of a file in `VENDOR`. The URL contains a content hash, so browsers can keep the file."""
    return url_for("assets.vendor", name=name, v=_content_hash(VENDOR[name]))


def _keep_linked_version(response: Response) -> Response:
    """Mark a file as unchangeable if the hash in its URL is right.

    During an upgrade of several processes, the page of a new one may request a file from an old one. Browsers must
    not keep that old file under the new URL.
    """
    path = _find_requested_file() if response.status_code in {200, 304} else None
    if path is not None and request.args.get("v") == _content_hash(path):
        response.headers["Cache-Control"] = _FOREVER
    return response


def _find_requested_file() -> Path | None:
    names: dict[str, str] = request.view_args or {}
    if request.endpoint == "static":
        return (_STATIC / names["filename"]).resolve()
    return VENDOR.get(names["name"]) if request.endpoint == "assets.vendor" else None


@cache
def _content_hash(path: Path) -> str:
    # Without `npm ci` the files of packages are missing; pages then work without scripts.
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10] if path.exists() else "missing"
