"""People of the cast who know a password."""

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
def stored() -> str:
    """The hash of `PASSWORD`."""
    return hash_password(PASSWORD)


def give_password(database: Database, cast: Cast, *names: str) -> None:
    """Let these people of the cast sign in with `PASSWORD`."""
    with database.transaction() as session:
        for name in names:
            session.get_one(User, cast.people[name]).password_hash = stored()


def browser(app: Flask, headers: Mapping[str, str] | None = None) -> FlaskClient:
    """A browser that nobody is signed in with."""
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    for name, text in (headers or {}).items():
        client.environ_base[f"HTTP_{name.upper().replace('-', '_')}"] = text
    return client


def sign_in(app: Flask, name: str, password: str = PASSWORD) -> FlaskClient:
    """A browser in which somebody of the cast has signed in by the form."""
    client = browser(app)
    answer = client.post("/login", data={"email": f"{name}@example.com", "password": password})
    assert answer.status_code == 303, answer.text
    return client


def is_signed_in(client: FlaskClient) -> bool:
    """Whether the portal still knows this browser."""
    return client.get("/account").status_code == 200
