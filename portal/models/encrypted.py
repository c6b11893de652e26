"""Columns that nobody can read who has only the database."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Dialect
from sqlalchemy.types import TypeDecorator

_keys: list[MultiFernet] = []


class UnreadableSecretError(Exception):
    """A stored secret was written under a key that is not among the configured ones."""


def use_keys(secret_key: str, fallbacks: Sequence[str] = ()) -> None:
    """Set the keys of this process: the first encrypts, all of them decrypt, so that keys can be rotated."""
    _keys[:] = [MultiFernet([_fernet(key) for key in (secret_key, *fallbacks)])]


class EncryptedJSON(TypeDecorator[Any]):
    """Any JSON value, encrypted and authenticated at rest with a key derived from `SECRET_KEY`."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encrypt on the way in."""
        return None if value is None else _current().encrypt(json.dumps(value).encode()).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decrypt on the way out.

        Raises:
            UnreadableSecretError: when no configured key fits.
        """
        if value is None:
            return None
        try:
            return json.loads(_current().decrypt(value.encode()))
        except InvalidToken:
            raise UnreadableSecretError(
                "a stored secret does not fit SECRET_KEY; add the former key to SECRET_KEY_FALLBACKS"
            ) from None


def _current() -> MultiFernet:
    if not _keys:
        raise RuntimeError("use_keys() has not been called in this process")
    return _keys[0]


def _fernet(key: str) -> Fernet:
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"flotilla encrypted columns").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
