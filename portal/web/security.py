"""What every answer and every request must obey, whatever the page: headers, hosts, and who may send forms."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, request
from flask import session as visitor_cookie
from werkzeug.exceptions import SecurityError
from werkzeug.middleware.proxy_fix import ProxyFix

from portal.settings import Settings
from portal.web import pending_tokens
from portal.web.extensions import csrf
from portal.web.unit_of_work import SAFE_METHODS

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # `no-referrer` would hide the referrer from our own CSRF check under https.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_A_YEAR = "max-age=31536000"
_CSRF_KEY = "csrf_token"


def init_app(app: Flask, settings: Settings) -> None:
    """Install all of it."""
    app.config.update(
        TRUSTED_HOSTS=[urlsplit(settings.base_url).hostname],
        MAX_CONTENT_LENGTH=1024 * 1024,
        SESSION_COOKIE_NAME=_cookie("visitor", settings),
        SESSION_COOKIE_SECURE=settings.secure_cookies,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        # What a signed-out visitor carries along: a token for forms, messages, a mailed link that was followed.
        PERMANENT_SESSION_LIFETIME=pending_tokens.LIFETIME_SECONDS,
        WTF_CSRF_TIME_LIMIT=None,
    )
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        proxied = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0)
        app.wsgi_app = proxied  # type: ignore[method-assign]
    app.before_request(_refuse_foreign_hosts)
    app.before_request(_refuse_foreign_forms)
    app.before_request(_refuse_all_but_forms)
    app.before_request(_refuse_nul)
    app.after_request(_add_headers)
    csrf.init_app(app)


def session_cookie_name(settings: Settings) -> str:
    """Name of the cookie of a signed-in browser; `__Host-` binds it to this very host where https allows that."""
    return _cookie("session", settings)


def bind_csrf(token: str) -> None:
    """Make forms of this request valid for one signed-in session only, and for as long as it lives.

    Args:
        token: the session's cookie.
    """
    key = str(current_app.secret_key).encode()
    bound = hmac.new(key, f"csrf:{token}".encode(), hashlib.sha256).hexdigest()
    # Written only where it differs, or every answer would set the cookie anew.
    if visitor_cookie.get(_CSRF_KEY) != bound:
        visitor_cookie[_CSRF_KEY] = bound


def _cookie(name: str, settings: Settings) -> str:
    return f"__Host-flotilla-{name}" if settings.secure_cookies else f"flotilla-{name}"


def _refuse_foreign_hosts() -> None:
    """Before anything else looks at the request: every other refusal is a page, which needs addresses of ours."""
    if isinstance(request.routing_exception, SecurityError):
        raise request.routing_exception


def _refuse_foreign_forms() -> None:
    """Customers' bots may live on sibling hosts, whose pages SameSite cookies do not keep out."""
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    settings: Settings = current_app.extensions["settings"]
    own = site == "same-origin" if site else request.headers.get("Origin") == settings.base_url
    if not own:
        abort(403, "This request came from another site. Open the portal itself and try again.")


def _refuse_all_but_forms() -> None:
    """Limits and checks look at `request.form`; our forms would read JSON and files too, and those pass them by."""
    if request.method in SAFE_METHODS:
        return
    empty = not request.mimetype and not request.content_length
    if not (empty or request.mimetype in _FORMS) or request.files:
        abort(415, "This address takes the portal's own forms, without files. Open the page and send its form.")


def _refuse_nul() -> None:
    """No text of ours has a NUL, and PostgreSQL cannot even look for one."""
    sent = (*request.args.items(multi=True), *request.form.items(multi=True))
    if "\0" in request.path or any("\0" in text for pair in sent for text in pair):
        abort(400, "This request contains a character that no text can have.")


def _add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    settings: Settings = current_app.extensions["settings"]
    if settings.secure_cookies:
        response.headers.setdefault("Strict-Transport-Security", _A_YEAR)
    response.vary.add("HX-Request")
    if g.get("visitor"):
        response.headers["Cache-Control"] = "no-store"
    return response
