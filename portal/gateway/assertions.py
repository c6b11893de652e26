"""Signed assertions of identity: short-lived JSON Web Tokens, which a bot can verify. Used by forwarded requests."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portal.rules.bot_access import find_role_in_bot
from portal.services.gateway.visits import Visit

HEADER = "x-platform-assertion"
LIFETIME_SECONDS = 60
_REUSE_SECONDS = 20
"""How long an assertion is sent with further requests, because signing each would cost more than forwarding it."""
_MAX_REUSED = 10_000


@dataclass(frozen=True)
class SigningKey:
    """A private key and its id in the published key set."""

    id: str
    private: Ed25519PrivateKey

    @classmethod
    def from_hex(cls, key_id: str, private: str) -> SigningKey:
        """Return the key with these 32 bytes, in hex."""
        return cls(key_id, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)))


class Assertions:
    """Issues assertions.

    Args:
        issuer: the URL of the portal, which publishes the keys.
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._key: SigningKey | None = None
        self._issued: dict[tuple[str, str], tuple[Visit, float, str]] = {}

    def use_key(self, key: SigningKey) -> None:
        """Sign with this key from now on."""
        if self._key is None or self._key.id != key.id:
            self._key = key
            self._issued.clear()

    def issue(self, visit: Visit) -> str | None:
        """Return an assertion about the person at the bot; None while there is no key."""
        if self._key is None:
            return None
        now, key = time.time(), (visit.user_id, visit.bot_id)
        issued = self._issued.get(key)
        if (
            issued is not None
            and (issued[0] is visit or issued[0] == visit)
            and 0 <= now - issued[1] < _REUSE_SECONDS
        ):
            return issued[2]
        token = _sign(self._key, self._claims(visit, int(now)))
        if len(self._issued) >= _MAX_REUSED:
            self._issued.clear()
        self._issued[key] = (visit, now, token)
        return token

    def _claims(self, visit: Visit, now: int) -> dict[str, Any]:
        return {
            "iss": self._issuer,
            "aud": visit.bot_id,
            "sub": visit.user_id,
            "email": visit.email,
            "name": visit.name,
            "role": find_role_in_bot(visit.facts),
            "org": visit.org_id,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        }


def _sign(key: SigningKey, claims: dict[str, Any]) -> str:
    """Return a token in the compact serialization of RFC 7515, with the algorithm EdDSA of RFC 8037."""
    header = {"alg": "EdDSA", "typ": "JWT", "kid": key.id}
    signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
    return f"{signed}.{_encode(key.private.sign(signed.encode()))}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
