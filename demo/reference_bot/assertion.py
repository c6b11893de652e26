"""The signed assertion of a caller's identity, a JSON Web Token of the platform's gateway. Used by `identity`.

With it, the bot need not trust its network: identity headers without an assertion about the same person are ignored.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from . import ed25519
from .key_set import KeySet, decode
from .members import Person

HEADER = "x-platform-assertion"
CLOCK_SKEW_SECONDS = 5
"""How far the clocks of platform and bot may differ."""
_LONGEST = 8 * 1024


class InvalidAssertion(ValueError):
    """The assertion is malformed, forged, expired, or for another bot."""


@dataclass(frozen=True)
class AssertionVerifier:
    """Verifies assertions.

    Attributes:
        keys: the public keys of the platform.
        audience: the platform's id of this bot.
    """

    keys: KeySet
    audience: str

    def verify(self, token: str) -> Person:
        """Return the person that a token is about.

        Raises:
            InvalidAssertion: the token proves nothing.
        """
        try:
            claims = self._read_claims(token)
            person = Person(claims["sub"], claims["email"], claims["name"])
            expires_at = float(claims["exp"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidAssertion("malformed") from error
        if claims.get("aud") != self.audience:
            raise InvalidAssertion("for another bot")
        if not time.time() < expires_at + CLOCK_SKEW_SECONDS:
            raise InvalidAssertion("expired")
        if not all(isinstance(value, str) for value in (person.user_id, person.email, person.name)):
            raise InvalidAssertion("malformed")
        return person

    def _read_claims(self, token: str) -> dict[str, Any]:
        if len(token) > _LONGEST:
            raise InvalidAssertion("too long")
        header, payload, signature = token.split(".")
        fields = json.loads(decode(header))
        # The token does not choose the algorithm: there is only one.
        if fields["alg"] != "EdDSA" or "crit" in fields:
            raise InvalidAssertion("unknown algorithm")
        key = self.keys.find(str(fields["kid"]))
        if key is None or not ed25519.verify(key, f"{header}.{payload}".encode(), decode(signature)):
            raise InvalidAssertion("forged")
        claims: dict[str, Any] = json.loads(decode(payload))
        return claims
