"""Names of the portal's cookies. With HTTPS the prefix `__Host-` binds a cookie to this host. Used by portal.web."""

from __future__ import annotations

from portal.settings import Settings


def session_cookie_name(settings: Settings) -> str:
    """Return the name of the cookie with the token of a session."""
    return _cookie_name("session", settings)


def device_cookie_name(settings: Settings) -> str:
    """Return the name of the cookie that recognizes a browser in which a user signed in before."""
    return _cookie_name("device", settings)


def visitor_cookie_name(settings: Settings) -> str:
    """Return the name of Flask's signed cookie for CSRF, messages and pending tokens."""
    return _cookie_name("visitor", settings)


def _cookie_name(name: str, settings: Settings) -> str:
    return f"__Host-flotilla-{name}" if settings.secure_cookies else f"flotilla-{name}"
