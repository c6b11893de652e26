"""Keys of rate limits for posted emails. Used by password reset."""

from __future__ import annotations

from flask import request

from portal.rules import email_addresses
from portal.tokens import fingerprint
from portal.web.client_address import current_network


def posted_email_key() -> str:
    """Return the SHA-256 of the posted email, so that a long text does not make a long key."""
    return fingerprint(email_addresses.normalize(request.form.get("email", "")))


def posted_email_and_network_key() -> str:
    """Return a key for the posted email and the client network, so that clients elsewhere do not use up the limit."""
    return f"{posted_email_key()} {current_network()}"
