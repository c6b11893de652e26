"""The public keys of assertions, as a JSON Web Key Set. Used by bots that verify the identity of their callers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from portal.services.gateway import assertion_keys
from portal.web.unit_of_work import session

pages = Blueprint("assertion_keys", __name__)

_CACHE_SECONDS = 300


@pages.get("/.well-known/jwks.json")
def key_set() -> Response:
    """Return the keys that sign assertions now, did so until recently, or will do so soon."""
    common = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
    keys = [{**common, "kid": key.id, "x": key.value} for key in assertion_keys.list_public(session())]
    response = jsonify(keys=keys)
    response.cache_control.public, response.cache_control.max_age = True, _CACHE_SECONDS
    return response
