"""Where a browser may be sent after signing in: only to pages of our own."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import current_app
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect


def safe_local_page(target: str | None) -> str | None:
    r"""`target` if it is a path that one of our GET routes answers, else None.

    `//host`, `/\host`, paths with control characters (also encoded ones) and addresses with a scheme are refused:
    browsers read some of them as another site.
    """
    if not target or not target.isprintable() or "\\" in target or "%" in target.partition("?")[0]:
        return None
    try:
        parts = urlsplit(target)
    except ValueError:  # what stands between the brackets of `//[` is no address
        return None
    if parts.scheme or parts.netloc or not parts.path.startswith("/") or parts.path.startswith("//"):
        return None
    try:
        endpoint, _ = current_app.url_map.bind("").match(parts.path, method="GET")
    except (HTTPException, RequestRedirect):
        return None
    return target if endpoint != "static" else None
