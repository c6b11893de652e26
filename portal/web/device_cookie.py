"""The device cookie: the accounts that have signed in from this browser. Used by sign-in and its limits.

Wrong passwords from elsewhere must not keep the owner of an account from signing in, so attempts from a browser that
the account has used before have their own limit. The cookie gives no other right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flask import current_app, request
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from portal.models import new_id
from portal.settings import Settings
from portal.web.cookie_names import device_cookie_name

_MAX_AGE = timedelta(days=365)
_MAX_ACCOUNTS = 5
"""How many accounts one browser remembers."""


@dataclass(frozen=True)
class _Device:
    """A browser: its random id, and the ids of the accounts, the most recent first."""

    id: str
    user_ids: tuple[str, ...]


def remember_account(response: Response, user_id: str) -> None:
    """Add an account to the cookie, because its owner has just signed in or opened a link mailed to its email."""
    device = _read_cookie()
    others = tuple(other for other in device.user_ids if other != user_id)
    settings: Settings = current_app.extensions["settings"]
    response.set_cookie(
        device_cookie_name(settings),
        _serializer().dumps([device.id, [user_id, *others][:_MAX_ACCOUNTS]]),
        max_age=_MAX_AGE,
        secure=settings.secure_cookies,
        httponly=True,
        samesite="Lax",
    )


def find_device_id(user_id: str | None) -> str | None:
    """Return the id of this browser if the account has signed in from it, otherwise None."""
    device = _read_cookie()
    return device.id if user_id in device.user_ids else None


def _read_cookie() -> _Device:
    """Return the browser of this request, or a new one if it has no valid cookie."""
    settings: Settings = current_app.extensions["settings"]
    try:
        device_id, user_ids = _serializer().loads(
            request.cookies.get(device_cookie_name(settings), ""), max_age=int(_MAX_AGE.total_seconds())
        )
    except BadData:
        return _Device(new_id(), ())
    return _Device(device_id, tuple(user_ids))


def _serializer() -> URLSafeTimedSerializer:
    keys = [*current_app.config["SECRET_KEY_FALLBACKS"], current_app.config["SECRET_KEY"]]
    return URLSafeTimedSerializer(keys, salt="device cookie")
