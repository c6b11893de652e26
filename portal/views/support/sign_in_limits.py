"""Rate limits for sign-in attempts. Used by login.

Only wrong passwords count. A browser from which the account signed in before has its own attempts, so that wrong
passwords from elsewhere never lock out the owner of an account. The limits of all other browsers count per email and
client network, per client network and, as a slow brake on attempts from many networks, per email.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response, g

from portal.rules import email_addresses
from portal.tokens import fingerprint
from portal.web import device_cookie
from portal.web.client_address import current_network
from portal.web.extensions import limiter


@dataclass(frozen=True)
class _Attempt:
    """An attempt: the hash of the email, and the id of the browser if the account has signed in from it before."""

    email: str
    device_id: str | None


def count_attempt(email: str, user_id: str | None) -> None:
    """Check the limits before the password is verified, and count the attempt if it is wrong (status 422).

    Args:
        email: the posted email.
        user_id: the account with this email; None if there is none.

    Raises:
        RateLimitExceeded: a limit is reached; the error says when the next attempt is allowed.
    """
    key = fingerprint(email_addresses.normalize(email))
    g.sign_in_attempt = _Attempt(key, device_cookie.find_device_id(user_id))
    _count()


def _is_failure(response: Response) -> bool:
    return response.status_code == 422


def _is_known_device() -> bool:
    return _attempt().device_id is not None


def _email_key() -> str:
    return _attempt().email


def _email_and_client_key() -> str:
    attempt = _attempt()
    return f"{attempt.email} {attempt.device_id or current_network()}"


def _attempt() -> _Attempt:
    attempt: _Attempt = g.sign_in_attempt
    return attempt


_per_email_and_client = limiter.shared_limit(
    "10 per 15 minutes", scope="sign-in by email and client", key_func=_email_and_client_key, deduct_when=_is_failure
)
_per_network = limiter.shared_limit(
    "30 per 15 minutes",
    scope="sign-in by network",
    key_func=current_network,
    exempt_when=_is_known_device,
    deduct_when=_is_failure,
)
_per_email = limiter.shared_limit(
    "50 per hour; 200 per day",
    scope="sign-in by email",
    key_func=_email_key,
    exempt_when=_is_known_device,
    deduct_when=_is_failure,
    error_message="You can still sign in from a browser that you used before, or reset your password.",
)


@_per_email_and_client
@_per_network
@_per_email
def _count() -> None:
    """Do nothing: the decorators check and count each call."""
