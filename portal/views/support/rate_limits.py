"""Whom limits count, where that is not the address of the network."""

from __future__ import annotations

from flask import request

from portal.rules import email_addresses
from portal.tokens import fingerprint


def posted_email_key() -> str:
    """The email address in the form that was sent: its SHA-256, for what is sent can be long."""
    return fingerprint(email_addresses.normalize(request.form.get("email", "")))
