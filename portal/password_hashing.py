"""Passwords at rest: argon2id. Hashing and verifying are slow on purpose, so never do either inside a transaction."""

from __future__ import annotations

import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from portal.tokens import random_token

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """The argon2id hash to store."""
    return _hasher.hash(_typed(password))


def verify_password(stored: str | None, password: str) -> bool:
    """Whether the password is the stored one.

    Takes as long where nothing is stored (unknown account, account without a password), so that the time of an
    answer does not tell which addresses have an account.
    """
    nobodys = _nobodys_hash()
    try:
        return _hasher.verify(stored or nobodys, _typed(password)) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def _typed(password: str) -> str:
    """The same whichever keyboard it was typed on: some compose "é" out of two characters."""
    return unicodedata.normalize("NFKC", password)


@cache
def _nobodys_hash() -> str:
    return hash_password(random_token())
