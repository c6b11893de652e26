"""Keys of rate limits for posted emails. Used by password reset."""

from __future__ import annotations

from flask import request

from portal.rules import email_addresses
from portal.tokens import fingerprint
from portal.web.client_address import current_network


def posted_email_and_network_key() -> str:
    """Return a key for the posted email and the client network, so that clients elsewhere do not use up the limit.

    The key contains the SHA-256 of the email, so that a long text does not make a long key.
    """
    email = email_addresses.normalize(request.form.get("email", ""))
    return f"{fingerprint(email)} {current_network()}"
