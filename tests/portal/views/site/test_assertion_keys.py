"""The key set of assertions."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import AssertionKey, utcnow
from portal.services.gateway import assertion_keys

pytestmark = pytest.mark.requests


def test_the_key_set_contains_public_keys_only(stranger: FlaskClient, database: Database) -> None:
    with database.transaction() as session:
        assertion_keys.rotate(session, utcnow())
        row = session.query(AssertionKey).one()
        private = row.private_key
    answer = stranger.get("/.well-known/jwks.json")
    assert answer.json == {
        "keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": row.id, "x": row.public_key}]
    }
    assert private not in answer.text
    assert answer.headers["Cache-Control"] == "public, max-age=300"
