"""Password hashing with argon2id. Used by views and commands that set or verify a password.

Hashing and verifying are slow by design, so call both outside transactions.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from portal.tokens import generate_token

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password."""
    return _hasher.hash(_normalize(password))


def verify_password(stored: str | None, password: str) -> bool:
    """Return whether the password matches the stored hash.

    Without a stored hash (unknown account, account without a password) this verifies a dummy hash and takes equally
    long, so the response time does not show which emails have an account.
    """
    dummy = _dummy_hash()
    try:
        return _hasher.verify(stored or dummy, _normalize(password)) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def _normalize(password: str) -> str:
    """Return the NFKC form, because some keyboards type "é" as one character and others as two."""
    return unicodedata.normalize("NFKC", password)


@cache
def _dummy_hash() -> str:
    return hash_password(generate_token())
