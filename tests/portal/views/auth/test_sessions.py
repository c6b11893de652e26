"""Tests of sessions: the list on the account page, ending sessions, cookies, and changes during sign-in."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.app import create_app
from portal.database import Database
from portal.models import Event, OneTimeToken, Org, OrgState, User, UserSession, utcnow
from portal.password_hashing import hash_password, verify_password
from portal.rules.user_agents import describe_browser
from portal.services.account_changes import deletion
from portal.services.accounts import accounts, administration
from portal.settings import Settings
from portal.tokens import fingerprint
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, give_password, is_signed_in, new_client, sign_in
from tests.support.cast import Cast

pytestmark = pytest.mark.requests

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"


@pytest.fixture(autouse=True)
def _set_passwords(database: Database, cast: Cast) -> None:
    give_password(database, cast, "bob", "carol")


def listed_sessions(client: FlaskClient) -> list[str]:
    """Return the id hashes of the sessions that the account page lists."""
    return re.findall(r'name="session" value="(\w+)"', client.get("/account").text)


@pytest.mark.every_database
def test_all_sessions_are_listed_and_the_current_one_is_marked(app: Flask) -> None:
    bob = new_client(app, {"User-Agent": FIREFOX})
    bob.post("/login", data={"email": "bob@example.com", "password": PASSWORD})
    sign_in(app, "bob")
    sign_in(app, "carol")
    answer = bob.get("/account")
    page = answer.text
    assert answer.mimetype == "text/html"
    assert len(listed_sessions(bob)) == 2
    assert re.search(r"Firefox on Linux</b>\s*<span[^>]*>this browser", page)
    assert page.count("this browser") == 1
    assert "127.0.0.1" in page


@pytest.mark.every_database
def test_user_ends_one_other_session(app: Flask, database: Database, cast: Cast) -> None:
    bob, other = sign_in(app, "bob"), sign_in(app, "bob")
    cookie = bob.get_cookie("flotilla-session")
    assert cookie is not None
    (other_hash,) = set(listed_sessions(bob)) - {fingerprint(cookie.value)}
    assert bob.post("/account/sessions/end", data={"session": other_hash}).location == "/account#browsers"
    assert "Browser signed out." in bob.get("/account").text
    assert not is_signed_in(other)
    assert listed_sessions(bob) == [fingerprint(cookie.value)]
    with database.reading() as session:
        event = session.query(Event).filter_by(tag="session.ended").one()
        assert event.actor_id == cast.people["bob"]


def test_user_cannot_end_sessions_of_another_user(app: Flask) -> None:
    bob, carol = sign_in(app, "bob"), sign_in(app, "carol")
    (carol_hash,) = listed_sessions(carol)
    bob.post("/account/sessions/end", data={"session": carol_hash})
    assert is_signed_in(carol)


def test_ending_the_current_session_redirects_to_login(app: Flask) -> None:
    bob, other = sign_in(app, "bob"), sign_in(app, "bob")
    cookie = bob.get_cookie("flotilla-session")
    assert cookie is not None
    assert bob.post("/account/sessions/end", data={"session": fingerprint(cookie.value)}).location == "/login"
    assert not is_signed_in(bob)
    assert is_signed_in(other)


@pytest.mark.every_database
def test_sign_out_everywhere_ends_all_sessions_of_the_user(app: Flask) -> None:
    browsers = [sign_in(app, "bob") for _ in range(3)]
    carol = sign_in(app, "carol")
    assert browsers[0].post("/account/sessions/end-all").location == "/login"
    assert [is_signed_in(client) for client in browsers] == [False] * 3
    assert is_signed_in(carol)


@pytest.mark.every_database
@pytest.mark.parametrize("change", ["password", "disabled", "deleted"])
def test_sign_in_fails_when_the_account_changes_during_password_verification(
    app: Flask, database: Database, cast: Cast, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def change_then_verify(stored: str | None, password: str) -> bool:
        user_id, now = cast.people["bob"], utcnow()
        with database.transaction() as session:
            if change == "password":
                accounts.set_password(session, user_id, hash_password(OTHER_PASSWORD), now)
            elif change == "disabled":
                administration.disable(session, user_id, now, actor=None)
            else:
                deletion.delete_account(session, accounts.Credentials(user_id, stored), now)
        return verify_password(stored, password)

    monkeypatch.setattr("portal.views.auth.login.verify_password", change_then_verify)
    bob = new_client(app)
    assert bob.post("/login", data={"email": "bob@example.com", "password": PASSWORD}).status_code == 422
    with database.reading() as session:
        assert session.query(UserSession).filter_by(user_id=cast.people["bob"]).count() == 0


@pytest.mark.every_database
@pytest.mark.parametrize(
    "sent",
    [
        (
            "/account/password",
            {"password-current_password": PASSWORD, "password-password": "a third one, which is long"},
        ),
        ("/account/address", {"address-email": "new@example.com", "address-current_password": PASSWORD}),
        ("/account/delete", {"email": "alice@example.com", "current_password": PASSWORD}),
        ("/o/acme/delete", {"name": "Acme", "password": PASSWORD}),
    ],
)
def test_sensitive_form_fails_when_the_password_is_reset_during_verification(
    app: Flask, database: Database, cast: Cast, monkeypatch: pytest.MonkeyPatch, sent: tuple[str, dict[str, str]]
) -> None:
    path, form = sent
    user_id, reset = cast.people["alice"], hash_password(OTHER_PASSWORD)
    if path == "/account/delete":  # owners cannot delete their account
        with database.transaction() as session:
            session.get_one(Org, cast.org_id).owner_id = cast.people["carol"]

    def change_then_verify(stored: str | None, password: str) -> bool:
        with database.transaction() as session:
            accounts.set_password(session, user_id, reset, utcnow())
        return verify_password(stored, password)

    give_password(database, cast, "alice")
    alice = sign_in(app, "alice")
    monkeypatch.setattr("portal.views.support.reauthentication.verify_password", change_then_verify)
    answer = alice.post(path, data=form)
    assert answer.status_code == 409
    assert "Sign in again" in answer.text
    with database.reading() as session:
        user = session.get_one(User, user_id)
        assert (user.password_hash, user.deleted_at) == (reset, None)
        assert session.query(OneTimeToken).count() == 0
        assert session.get_one(Org, cast.org_id).state is OrgState.ACTIVE


def test_idle_sessions_are_not_listed_sessions(app: Flask, database: Database) -> None:
    bob, _old = sign_in(app, "bob"), sign_in(app, "bob")
    cookie = bob.get_cookie("flotilla-session")
    assert cookie is not None
    with database.transaction() as session:
        old = session.query(UserSession).filter(UserSession.id_hash != fingerprint(cookie.value)).one()
        old.last_seen_at = utcnow() - timedelta(hours=13)
    assert listed_sessions(bob) == [fingerprint(cookie.value)]


@pytest.mark.every_database
def test_second_sign_in_in_one_browser_ends_its_first_session(app: Flask) -> None:
    bob = sign_in(app, "bob")
    old = bob.get_cookie("flotilla-session")
    assert old is not None
    bob.post("/login", data={"email": "bob@example.com", "password": PASSWORD})
    assert is_signed_in(bob)
    thief = new_client(app)
    thief.set_cookie("flotilla-session", old.value)
    assert not is_signed_in(thief)


CHROMIUM = "Mozilla/5.0 (%s) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 %sSafari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Version/18.6 Safari/604.1"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (CHROMIUM % ("Linux; Android 10; K", "Mobile "), "Chrome on Android"),
        (CHROMIUM % ("Windows NT 10.0; Win64; x64", "") + " Edg/141.0.0.0", "Edge on Windows"),
        (IPHONE, "Safari on iPhone"),
        ("curl/8.14.1", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_user_agents_are_described(user_agent: str, words: str) -> None:
    assert describe_browser(user_agent) == words


def test_session_cookie_is_secure_and_bound_to_the_host_under_https(
    settings: Settings, redis_url: str, database: Database, cast: Cast
) -> None:
    app = create_app(replace(settings, redis_url=redis_url, base_url="https://localhost"))
    app.config["WTF_CSRF_ENABLED"] = False
    client = new_client(app)
    data = {"email": "bob@example.com", "password": PASSWORD}
    answer = client.post("/login", data=data, base_url="https://localhost")
    assert answer.status_code == 303
    (cookie,) = (line for line in answer.headers.getlist("Set-Cookie") if line.startswith("__Host-flotilla-session="))
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert len(cookie.partition("=")[2].partition(";")[0]) == 43


def test_visitor_cookie_lasts_an_hour(app: Flask) -> None:
    assert app.permanent_session_lifetime == timedelta(minutes=60)
