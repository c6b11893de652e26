"""Signing in and out."""

import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import UserSession, utcnow
from portal.password_hashing import hash_password
from portal.services.accounts import accounts
from tests.support.cast import SignedIn

PASSWORD = "a long and boring password"


@pytest.fixture
def operator(database: Database) -> str:
    """An operator made as the command line does it; gives the address."""
    stored = hash_password(PASSWORD)
    with database.transaction() as session:
        return accounts.create_operator(session, "Olga@Example.com", "Olga", stored).email


def test_an_operator_signs_in_and_lands_on_the_overview(stranger: FlaskClient, operator: str) -> None:
    answer = stranger.post("/login", data={"email": operator.upper(), "password": PASSWORD})
    assert (answer.status_code, answer.location) == (303, "/")
    assert stranger.get("/").location == "/admin/"


@pytest.mark.parametrize(("email", "password"), [("olga@example.com", "wrong"), ("nobody@example.com", PASSWORD)])
def test_wrong_password_and_unknown_address_look_alike(
    stranger: FlaskClient, operator: str, email: str, password: str
) -> None:
    answer = stranger.post("/login", data={"email": email, "password": password})
    assert answer.status_code == 422
    assert "do not belong together" in answer.text
    assert stranger.get("/").status_code == 303


def test_only_the_hash_of_the_cookie_is_stored(stranger: FlaskClient, operator: str, database: Database) -> None:
    stranger.post("/login", data={"email": operator, "password": PASSWORD})
    cookie = stranger.get_cookie("flotilla-session")
    assert cookie is not None
    with database.reading() as session:
        (row,) = session.query(UserSession).all()
    assert cookie.value not in row.id_hash


def test_signing_out_ends_the_session_in_the_database(signed_in: SignedIn, database: Database) -> None:
    client = signed_in("alice")
    cookie = client.get_cookie("flotilla-session")
    assert cookie is not None
    assert client.post("/logout").location == "/login"
    client.set_cookie("flotilla-session", cookie.value)
    assert client.get("/").location == "/login"


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "/%09/evil.example", "https:evil", "https://evil.example", "/nope", "//[x"],
)
def test_signing_in_never_leads_elsewhere(stranger: FlaskClient, operator: str, target: str) -> None:
    answer = stranger.post("/login", data={"email": operator, "password": PASSWORD, "next": target})
    assert answer.location == "/"


def test_signing_in_leads_back_to_the_page_that_was_asked_for(stranger: FlaskClient, operator: str) -> None:
    asked = stranger.get("/admin/rollouts")
    assert asked.location == "/login?next=/admin/rollouts"
    answer = stranger.post("/login", data={"email": operator, "password": PASSWORD, "next": "/admin/rollouts"})
    assert answer.location == "/admin/rollouts"


def test_too_many_attempts_at_one_account_are_refused(stranger: FlaskClient) -> None:
    for _ in range(10):
        assert stranger.post("/login", data={"email": "olga@example.com"}).status_code == 422
    answer = stranger.post("/login", data={"email": " OLGA@example.com"})
    assert answer.status_code == 429
    assert re.search(r"Try again in 1[45] minutes", answer.text), answer.text
    assert stranger.post("/login", data={"email": "other@example.com"}).status_code == 422


def test_a_dead_session_sends_a_fragment_to_login(stranger: FlaskClient) -> None:
    answer = stranger.get("/", headers={"HX-Request": "true", "HX-Current-URL": "http://localhost/admin/fleet?q=x"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/login?next=/admin/fleet?q%3Dx"
    assert answer.text == ""


def test_a_fragment_of_a_page_without_a_proper_address_goes_to_login_all_the_same(stranger: FlaskClient) -> None:
    answer = stranger.get("/", headers={"HX-Request": "true", "HX-Current-URL": "http://[x"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")


def test_polling_does_not_keep_a_session_alive(signed_in: SignedIn, database: Database) -> None:
    client = signed_in("alice")

    def last_seen_after(address: str) -> bool:
        with database.transaction() as session:
            (row,) = session.query(UserSession).all()
            row.last_seen_at = before = utcnow() - timedelta(hours=1)
        client.get(address, headers={"HX-Request": "true"})
        with database.reading() as session:
            (row,) = session.query(UserSession).all()
            return row.last_seen_at > before

    assert not last_seen_after("/healthz?part=progress")
    assert last_seen_after("/healthz")


def test_a_form_needs_the_token_of_this_very_session(app: Flask, signed_in: SignedIn) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    alice, mallory = signed_in("alice"), signed_in("mallory")

    def token(client: FlaskClient) -> str:
        page = client.get("/").text if client is mallory else client.get("/nowhere").text
        return page.partition('"X-CSRFToken": "')[2].partition('"')[0]

    foreign, own = token(mallory), token(alice)
    assert alice.post("/logout").status_code == 400
    assert alice.post("/logout", data={"csrf_token": foreign}).status_code == 400
    assert alice.post("/logout", data={"csrf_token": own}).status_code == 303
