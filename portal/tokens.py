"""Secret tokens of links and cookies: generate, derive, hash. Used by sessions, invites and mailed links."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def generate_token() -> str:
    """Return 256 random bits in characters that URLs and cookies allow."""
    return secrets.token_urlsafe(32)


def derive_token(secret_key: str, purpose: str, row_id: str, generation: int) -> str:
    """Derive the token of a mailed link when the mail is composed, so that no table ever holds it.

    Args:
        secret_key: `SECRET_KEY`; the database alone is not enough to derive the token.
        purpose: the purpose of the link; a token is valid for one purpose only.
        row_id: the id of the link's row.
        generation: a counter; increasing it yields a new link for the same row.
    """
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"flotilla mailed links").derive(secret_key.encode())
    digest = hmac.digest(key, f"{purpose}:{row_id}:{generation}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def fingerprint(token: str) -> str:
    """Return the SHA-256 of a token, in hex. A token has 256 random bits and needs no salt or slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()
