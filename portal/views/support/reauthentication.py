"""Asking signed-in people for their password again, before what an unlocked desk must not be enough for."""

from __future__ import annotations

from flask_limiter.util import get_remote_address

from portal.password_hashing import verify_password
from portal.services.accounts import accounts
from portal.services.accounts.accounts import Credentials
from portal.views.support import authorization
from portal.web.extensions import limiter
from portal.web.session_cookie import visitor
from portal.web.unit_of_work import session


def _who() -> str:
    found = visitor()
    return found.user.id if found else get_remote_address()


attempts = limiter.shared_limit("10 per 15 minutes", scope="own-password", key_func=_who)
"""Decorates every view that asks, so that all of them together allow ten attempts."""

WRONG_PASSWORD = "This is not your password."


def is_password_correct(password: str | None) -> bool:
    """Whether this is the password of whoever is signed in. It is slow on purpose: ask before the first query."""
    return verify_password(authorization.require_user().password_hash, password or "")


def current_credentials() -> Credentials:
    """Those that `is_right` compares with: of the account as it was when the request began."""
    user = authorization.require_user()
    return Credentials(user.id, user.password_hash)


def require_unchanged_password() -> None:
    """Make sure, in the request's transaction, that what was compared before still holds until it ends.

    Ask for it after locking organizations, for whoever joins one locks the account second.

    Raises:
        ConflictError: the password was changed meanwhile, or the account disabled.
    """
    accounts.require_current_credentials(session(), current_credentials())
