"""Mailed links between the click and the form: their token waits in the visitor's signed cookie.

Following a link consumes nothing, for mail scanners follow links too: the token moves into the cookie and the browser
goes on to an address without it, where a form acts. So no token stays in an address bar, a history or a log.
"""

from __future__ import annotations

import re
import time

from flask import session as visitor_cookie

LIFETIME_SECONDS = 3600
"""So long a followed link waits for its form."""

_KEY = "pending"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_OUTLIVE_SIGN_IN = frozenset({"invite", "change_email"})
"""What people may have to sign in for, and then go on with."""


def store_token(purpose: str, token: str) -> None:
    """Let a link's token wait for its form, in the place of an older one.

    What cannot be a token of ours changes nothing: it may be the address of the form itself, typed or loaded again.

    Args:
        purpose: what the link is for; one link waits per purpose.
        token: as it stood in the address.
    """
    if _TOKEN.fullmatch(token):
        visitor_cookie[_KEY] = {**_waiting(), purpose: (token, int(time.time()))}


def get_token(purpose: str) -> str | None:
    """The token that waits for a form of this purpose; None when there is none, or it waited for too long."""
    found, since = _waiting().get(purpose, (None, 0))
    return found if time.time() < since + LIFETIME_SECONDS else None


def discard_token(purpose: str) -> None:
    """Drop a token that was used, or is of no use."""
    visitor_cookie[_KEY] = {name: entry for name, entry in _waiting().items() if name != purpose}


def keep_across_sign_in() -> None:
    """Clear the cookie as somebody signs in or out, except for links they may have signed in for."""
    waiting = {name: entry for name, entry in _waiting().items() if name in _OUTLIVE_SIGN_IN}
    visitor_cookie.clear()
    if waiting:
        visitor_cookie[_KEY] = waiting


def _waiting() -> dict[str, tuple[str, int]]:
    """By purpose: the token, and when its link was followed."""
    found: dict[str, tuple[str, int]] = visitor_cookie.get(_KEY, {})
    return found
