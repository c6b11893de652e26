"""Security of all requests: headers, trusted hosts, CSRF, and the content types of forms. Used by `create_app`."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, request
from flask import session as visitor_cookie
from werkzeug.exceptions import SecurityError

from portal.settings import Settings
from portal.web import pending_tokens
from portal.web.cookie_names import visitor_cookie_name
from portal.web.extensions import csrf
from portal.web.unit_of_work import SAFE_METHODS

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # `no-referrer` would hide the referrer, which the CSRF check needs under HTTPS.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_HSTS_ONE_YEAR = "max-age=31536000"
_CSRF_KEY = "csrf_token"
_MAX_FORM_BYTES = 500_000
"""A form that names 10,000 bots is smaller."""

PUBLIC_FILES = frozenset({"static", "assets.vendor", "assertion_keys.key_set"})
"""Endpoints of files that are the same for all visitors. Caches may store nothing else."""


def init_app(app: Flask, settings: Settings) -> None:
    """Configure cookies and CSRF protection, and install the checks and headers."""
    app.config.update(
        TRUSTED_HOSTS=[urlsplit(settings.base_url).hostname],
        MAX_CONTENT_LENGTH=_MAX_FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=_MAX_FORM_BYTES,
        SESSION_COOKIE_NAME=visitor_cookie_name(settings),
        SESSION_COOKIE_SECURE=settings.secure_cookies,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        # This cookie stores the CSRF token, flashed messages and followed links of signed-out visitors.
        PERMANENT_SESSION_LIFETIME=pending_tokens.LIFETIME_SECONDS,
        WTF_CSRF_TIME_LIMIT=None,
    )
    app.before_request(_refuse_untrusted_hosts)
    app.before_request(_refuse_cross_site_forms)
    app.before_request(_refuse_other_content_types)
    app.before_request(_refuse_nul_characters)
    app.after_request(_add_headers)
    csrf.init_app(app)


def bind_csrf(token: str) -> None:
    """Bind the CSRF token to the signed-in session, so that forms are valid for this session only.

    Args:
        token: the value of the session cookie.
    """
    key = str(current_app.secret_key).encode()
    bound = hmac.new(key, f"csrf:{token}".encode(), hashlib.sha256).hexdigest()
    # Every assignment sends the cookie again, so assign only a new value.
    if visitor_cookie.get(_CSRF_KEY) != bound:
        visitor_cookie[_CSRF_KEY] = bound


def _refuse_untrusted_hosts() -> None:
    """Refuse requests for other hosts first, because error pages of later checks need a trusted host."""
    if isinstance(request.routing_exception, SecurityError):
        raise request.routing_exception


def _refuse_cross_site_forms() -> None:
    """Refuse forms from other sites. SameSite cookies are not enough, because bots may run on sibling hosts."""
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    settings: Settings = current_app.extensions["settings"]
    is_own = site == "same-origin" if site else request.headers.get("Origin") == settings.base_url
    if not is_own:
        abort(403, "This request came from another site. Open the portal and try again.")


def _refuse_other_content_types() -> None:
    """Refuse JSON and files, which Flask-WTF would accept but which rate limits and checks do not inspect."""
    if request.method in SAFE_METHODS:
        return
    is_empty = not request.mimetype and not request.content_length
    if not (is_empty or request.mimetype in _FORM_TYPES) or request.files:
        abort(415, "This address only accepts the portal's own forms. Open the page and submit its form.")


def _refuse_nul_characters() -> None:
    """Refuse NUL characters, which PostgreSQL cannot store or search."""
    fields = (*request.args.items(multi=True), *request.form.items(multi=True))
    if "\0" in request.path or any("\0" in text for pair in fields for text in pair):
        abort(400, "This request contains an invalid character (NUL).")


def _add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    settings: Settings = current_app.extensions["settings"]
    if settings.secure_cookies:
        response.headers.setdefault("Strict-Transport-Security", _HSTS_ONE_YEAR)
    response.vary.add("HX-Request")
    # Pages show emails and other personal data even to signed-out visitors, for example in error messages.
    if request.endpoint not in PUBLIC_FILES or response.status_code >= 400:
        response.headers["Cache-Control"] = "no-store"
    return response
