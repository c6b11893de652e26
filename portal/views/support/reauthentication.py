"""Check of the current password before a sensitive change. Used by views that change or delete accounts and orgs."""

from __future__ import annotations

from portal.password_hashing import verify_password
from portal.services.accounts import accounts
from portal.services.accounts.accounts import Credentials
from portal.views.support import authorization
from portal.web.client_address import current_network
from portal.web.extensions import limiter
from portal.web.session_cookie import current_visitor
from portal.web.unit_of_work import session


def _limit_key() -> str:
    visitor = current_visitor()
    return visitor.user.id if visitor else current_network()


limit_attempts = limiter.shared_limit("10 per 15 minutes", scope="own-password", key_func=_limit_key)
"""Decorator for every view that asks for the current password. All of these views share the ten attempts."""

MISMATCH_MESSAGE = "Wrong password."


def is_password_correct(password: str | None) -> bool:
    """Return whether this is the current user's password.

    This is slow by design. Call it before the first query, so that no transaction waits for it.
    """
    return verify_password(authorization.require_user().password_hash, password or "")


def current_credentials() -> Credentials:
    """Return the credentials that `is_password_correct` verified, as they were when the request began."""
    user = authorization.require_user()
    return Credentials(user.id, user.password_hash)


def require_unchanged_password() -> None:
    """Check, in the request's transaction, that the verified password is still valid, and keep it so.

    Call this after locking organizations: a transaction that adds a member locks the organization first and the
    account second.

    Raises:
        ConflictError: the password was changed or the account was disabled since the request began.
    """
    accounts.require_current_credentials(session(), current_credentials())
