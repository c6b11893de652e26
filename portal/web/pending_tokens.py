"""Tokens of followed links, kept in the visitor's signed cookie until their form is submitted.

Following a link must not use it up, because mail scanners follow links too. So a followed link stores its token in
the cookie and redirects to an address without the token, where a form acts. This also keeps tokens out of address
bars, histories and logs. Used by sign-up, password reset, email change and invites.
"""

from __future__ import annotations

import re
import time

from flask import session as visitor_cookie

LIFETIME_SECONDS = 3600
"""How long a token is kept after its link was followed."""

_KEY = "pending"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_KEPT_AT_SIGN_IN = frozenset({"invite", "change_email"})
"""Purposes whose links may require a sign-in before their form is submitted."""


def store_token(purpose: str, token: str) -> None:
    """Store the token of a followed link and replace an older token with the same purpose.

    A text that cannot be a token is ignored: it may be the address of the form itself, which a reload requests.

    Args:
        purpose: the purpose of the link.
        token: the last part of the link's path.
    """
    if _TOKEN.fullmatch(token):
        visitor_cookie[_KEY] = {**_entries(), purpose: (token, int(time.time()))}


def get_token(purpose: str) -> str | None:
    """Return the stored token with this purpose; None when there is none or it is too old."""
    token, stored_at = _entries().get(purpose, (None, 0))
    return token if time.time() < stored_at + LIFETIME_SECONDS else None


def discard_token(purpose: str) -> None:
    """Remove the stored token with this purpose."""
    visitor_cookie[_KEY] = {name: entry for name, entry in _entries().items() if name != purpose}


def clear_cookie() -> None:
    """Clear the visitor's cookie at sign-in or sign-out, except for tokens that may require a sign-in."""
    kept = {name: entry for name, entry in _entries().items() if name in _KEPT_AT_SIGN_IN}
    visitor_cookie.clear()
    if kept:
        visitor_cookie[_KEY] = kept


def _entries() -> dict[str, tuple[str, int]]:
    """Return the token and the Unix time at which it was stored, by purpose."""
    entries: dict[str, tuple[str, int]] = visitor_cookie.get(_KEY, {})
    return entries
