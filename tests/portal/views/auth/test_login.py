"""Tests of login and logout."""

import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import UserSession, utcnow
from portal.password_hashing import hash_password
from portal.services.accounts import accounts
from tests.portal.views import people
from tests.support.cast import SignedIn

pytestmark = pytest.mark.requests

PASSWORD = "a long and boring password"


@pytest.fixture
def operator(database: Database) -> str:
    """Create an operator as the command line does, and return the email."""
    stored = hash_password(PASSWORD)
    with database.transaction() as session:
        return accounts.create_operator(session, "Olga@Example.com", "Olga", stored).email


def test_operator_opens_the_overview_after_sign_in(stranger: FlaskClient, operator: str) -> None:
    answer = stranger.post("/login", data={"email": operator.upper(), "password": PASSWORD})
    assert (answer.status_code, answer.location) == (303, "/")
    assert stranger.get("/").location == "/admin/"


@pytest.mark.parametrize(("email", "password"), [("olga@example.com", "wrong"), ("nobody@example.com", PASSWORD)])
def test_wrong_password_and_unknown_email_get_the_same_answer(
    stranger: FlaskClient, operator: str, email: str, password: str
) -> None:
    answer = stranger.post("/login", data={"email": email, "password": password})
    assert answer.status_code == 422
    assert "Wrong email or password" in answer.text
    assert stranger.get("/").status_code == 303


def test_only_the_hash_of_the_session_token_is_stored(
    stranger: FlaskClient, operator: str, database: Database
) -> None:
    stranger.post("/login", data={"email": operator, "password": PASSWORD})
    cookie = stranger.get_cookie("flotilla-session")
    assert cookie is not None
    with database.reading() as session:
        (row,) = session.query(UserSession).all()
    assert cookie.value not in row.id_hash


@pytest.mark.every_database
def test_logout_ends_the_session_in_the_database(signed_in: SignedIn, database: Database) -> None:
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
def test_sign_in_does_not_redirect_to_other_sites(stranger: FlaskClient, operator: str, target: str) -> None:
    answer = stranger.post("/login", data={"email": operator, "password": PASSWORD, "next": target})
    assert answer.location == "/"


def test_sign_in_returns_to_the_requested_page(stranger: FlaskClient, operator: str) -> None:
    answer = stranger.get("/admin/rollouts")
    assert answer.location == "/login?next=/admin/rollouts"
    answer = stranger.post("/login", data={"email": operator, "password": PASSWORD, "next": "/admin/rollouts"})
    assert answer.location == "/admin/rollouts"


def test_too_many_attempts_for_one_email_are_refused(stranger: FlaskClient) -> None:
    for _ in range(10):
        data = {"email": "olga@example.com", "password": PASSWORD}
        assert stranger.post("/login", data=data).status_code == 422
    answer = stranger.post("/login", data={"email": " OLGA@example.com", "password": PASSWORD})
    assert answer.status_code == 429
    assert re.search(r"Try again in 1[45] minutes", answer.text), answer.text
    assert stranger.post("/login", data=data | {"email": "other@example.com"}).status_code == 422


def test_fragment_request_without_session_redirects_the_page_to_login(stranger: FlaskClient) -> None:
    answer = stranger.get("/", headers={"HX-Request": "true", "HX-Current-URL": "http://localhost/admin/fleet?q=x"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/login?next=/admin/fleet?q%3Dx"
    assert answer.text == ""


def test_fragment_request_with_an_invalid_page_url_redirects_to_login(stranger: FlaskClient) -> None:
    answer = stranger.get("/", headers={"HX-Request": "true", "HX-Current-URL": "http://[x"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")


def test_polling_does_not_extend_a_session(signed_in: SignedIn, database: Database) -> None:
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


def test_csrf_token_of_another_session_is_refused(app: Flask, signed_in: SignedIn) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    alice, mallory = signed_in("alice"), signed_in("mallory")

    def token(client: FlaskClient) -> str:
        page = client.get("/").text if client is mallory else client.get("/nowhere").text
        return page.partition('"X-CSRFToken": "')[2].partition('"')[0]

    foreign, own = token(mallory), token(alice)
    assert alice.post("/logout").status_code == 400
    assert alice.post("/logout", data={"csrf_token": foreign}).status_code == 400
    assert alice.post("/logout", data={"csrf_token": own}).status_code == 303


def test_login_form_of_a_second_tab_leads_home_after_sign_in(app: Flask, operator: str) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    olga = people.new_client(app)
    found = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', olga.get("/login").text)
    assert found
    form = {"email": operator, "password": PASSWORD, "csrf_token": found[1]}
    assert olga.post("/login", data=form).status_code == 303
    assert olga.post("/login", data=form).location == "/"
    assert people.new_client(app).post("/login", data=form).status_code == 400
