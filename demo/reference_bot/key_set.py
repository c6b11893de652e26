"""The public keys of the platform, read from its JSON Web Key Set. Used by `assertion`."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.request
from contextlib import suppress
from typing import Any

REFRESH_SECONDS = 300
"""Age at which the keys are read again."""
RETRY_SECONDS = 5
"""Shortest time between two readings, so that forged key ids cause no flood of requests."""
_TIMEOUT_SECONDS = 5
_LARGEST = 64 * 1024


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_options: Any) -> None:
        return None


class KeySet:
    """Keys by their id, read on first use. The last known keys stay valid while the platform does not answer."""

    def __init__(self, url: str) -> None:
        """Read the keys from `url`."""
        self._url = url
        self._keys: dict[str, bytes] = {}
        self._read_at = float("-inf")
        self._reading = threading.Lock()
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)

    def find(self, key_id: str) -> bytes | None:
        """Return the public key with this id, or None if the platform does not publish it."""
        with self._reading:
            age = time.monotonic() - self._read_at
            if age > REFRESH_SECONDS or (key_id not in self._keys and age > RETRY_SECONDS):
                self._read_at = time.monotonic()
                with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    self._keys = self._read()
            return self._keys.get(key_id)

    def _read(self) -> dict[str, bytes]:
        with self._opener.open(self._url, timeout=_TIMEOUT_SECONDS) as answer:
            document = json.loads(answer.read(_LARGEST))
        return {
            key["kid"]: decode(key["x"])
            for key in document["keys"]
            if (key.get("kty"), key.get("crv")) == ("OKP", "Ed25519")
        }


def decode(text: str) -> bytes:
    """Return the bytes that base64url without padding encodes.

    Raises:
        ValueError: the text is not base64url.
    """
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
