"""Check of redirect targets that come from a request. Used by login."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import current_app
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect


def safe_redirect_target(target: str | None) -> str | None:
    r"""Return `target` when it is a path of this portal that answers GET requests, otherwise None.

    Refuses `//host`, `/\host`, paths with control characters or any percent-encoding, and addresses with a scheme:
    browsers read some of them as another site.
    """
    if not target or not target.isprintable() or "\\" in target or "%" in target.partition("?")[0]:
        return None
    try:
        parts = urlsplit(target)
    except ValueError:  # for example `//[x`, which has no valid IPv6 address between its brackets
        return None
    if parts.scheme or parts.netloc or not parts.path.startswith("/") or parts.path.startswith("//"):
        return None
    try:
        endpoint, _ = current_app.url_map.bind("").match(parts.path, method="GET")
    except (HTTPException, RequestRedirect):
        return None
    return target if endpoint != "static" else None
