"""Helpers that give people of the cast a password and sign them in. Used by the tests of pages."""

from collections.abc import Mapping
from functools import cache

from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import User
from portal.password_hashing import hash_password
from tests.support.cast import Cast

PASSWORD = "tree lamp river stone"
OTHER_PASSWORD = "cloud spoon anchor violin"


@cache
def password_hash() -> str:
    """Return the hash of `PASSWORD`, which is slow to compute and therefore computed once."""
    return hash_password(PASSWORD)


def give_password(database: Database, cast: Cast, *names: str) -> None:
    """Set the password of these people of the cast to `PASSWORD`."""
    with database.transaction() as session:
        for name in names:
            session.get_one(User, cast.people[name]).password_hash = password_hash()


def new_client(app: Flask, headers: Mapping[str, str] | None = None) -> FlaskClient:
    """Return a signed-out test client that sends these headers with every request."""
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    for name, text in (headers or {}).items():
        client.environ_base[f"HTTP_{name.upper().replace('-', '_')}"] = text
    return client


def sign_in(app: Flask, name: str, password: str = PASSWORD) -> FlaskClient:
    """Return a test client in which a person of the cast has signed in through the form."""
    client = new_client(app)
    response = client.post("/login", data={"email": f"{name}@example.com", "password": password})
    assert response.status_code == 303, response.text
    return client


def is_signed_in(client: FlaskClient) -> bool:
    """Whether the client has an active session."""
    return client.get("/account").status_code == 200
