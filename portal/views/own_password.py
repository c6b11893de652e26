"""Asking signed-in people for their password again, before what an unlocked desk must not be enough for."""

from __future__ import annotations

from flask_limiter.util import get_remote_address

from portal.extensions import limiter
from portal.passwords import verify_password
from portal.sessions import visitor
from portal.views import access


def _who() -> str:
    found = visitor()
    return found.user.id if found else get_remote_address()


attempts = limiter.shared_limit("10 per 15 minutes", scope="own-password", key_func=_who)
"""Decorates every view that asks, so that all of them together allow ten attempts."""

WRONG = "This is not your password."


def is_right(password: str | None) -> bool:
    """Whether this is the password of whoever is signed in. It is slow on purpose: ask before the first query."""
    return verify_password(access.user().password_hash, password or "")
