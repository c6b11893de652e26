"""Keys of rate limits that do not count by network address. Used by login and password reset."""

from __future__ import annotations

from flask import request

from portal.rules import email_addresses
from portal.tokens import fingerprint


def posted_email_key() -> str:
    """Return the SHA-256 of the posted email, so that a long text does not make a long key."""
    return fingerprint(email_addresses.normalize(request.form.get("email", "")))
