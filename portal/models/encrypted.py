"""Encrypted columns, which are unreadable without SECRET_KEY. Used by models with secrets."""

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
    """A stored secret was encrypted with a key that is not configured."""


def use_keys(secret_key: str, fallbacks: Sequence[str] = ()) -> None:
    """Set the keys of this process. `secret_key` encrypts and decrypts; the fallbacks only decrypt old values."""
    _keys[:] = [MultiFernet([_derive_fernet(key) for key in (secret_key, *fallbacks)])]


class EncryptedJSON(TypeDecorator[Any]):
    """A column with a JSON value, encrypted and authenticated with a key derived from `SECRET_KEY`."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encrypt a value for the database."""
        return None if value is None else _require_keys().encrypt(json.dumps(value).encode()).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decrypt a value from the database.

        Raises:
            UnreadableSecretError: no configured key can decrypt the value.
        """
        if value is None:
            return None
        try:
            return json.loads(_require_keys().decrypt(value.encode()))
        except InvalidToken:
            raise UnreadableSecretError(
                "a stored secret cannot be decrypted with SECRET_KEY; add the previous key to SECRET_KEY_FALLBACKS"
            ) from None


def _require_keys() -> MultiFernet:
    if not _keys:
        raise RuntimeError("use_keys() has not been called in this process")
    return _keys[0]


def _derive_fernet(key: str) -> Fernet:
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"flotilla encrypted columns").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
