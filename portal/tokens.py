"""Secrets that travel in links and cookies: how they are made, and what of them is stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def random_token() -> str:
    """256 random bits, fit for a URL or a cookie."""
    return secrets.token_urlsafe(32)


def derived_token(secret_key: str, purpose: str, row_id: str, generation: int) -> str:
    """The token of a mailed link: computed when the mail is sent, so that no table ever holds it.

    Args:
        secret_key: `SECRET_KEY`; without it nobody can compute the token from the database.
        purpose: what the link is for; a token fits one purpose only.
        row_id: the row the link belongs to.
        generation: raised to make a fresh link for the same row.
    """
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"flotilla mailed links").derive(secret_key.encode())
    digest = hmac.digest(key, f"{purpose}:{row_id}:{generation}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def fingerprint(token: str) -> str:
    """What is stored of a token: its SHA-256. With 256 random bits behind it, no salt or slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()
