"""Tests of rate limits: how many requests they allow, and what they count by."""

import re
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from werkzeug.test import TestResponse

from portal.app import create_app
from portal.database import Database
from portal.queue import connect
from portal.settings import Settings
from portal.web.extensions import limiter
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, give_password, new_client, sign_in
from tests.support.cast import Cast
from tests.support.outbox import MailDelivery

pytestmark = pytest.mark.requests


def assert_limited(answer: TestResponse, max_seconds: int) -> None:
    """Check that the answer says, in its text and in its header, when to try again."""
    assert answer.status_code == 429
    seconds = int(answer.headers["Retry-After"])
    assert 0 < seconds <= max_seconds
    span = re.search(r"Try again in (\d+) (minute|hour)", answer.text)
    assert span is not None
    unit = 60 if span[2] == "minute" else 3600
    assert abs(unit * int(span[1]) - seconds) <= unit


def attempt(client: FlaskClient, email: str, password: str, *, address: str = "127.0.0.1") -> TestResponse:
    """Try to sign in from a network address."""
    data = {"email": email, "password": password}
    return client.post("/login", data=data, environ_base={"REMOTE_ADDR": address})


def sign_in_elsewhere(app: Flask, name: str) -> FlaskClient:
    """Return a browser in which a person of the cast has signed in from another network and signed out."""
    client = new_client(app)
    answer = attempt(client, f"{name}@example.com", PASSWORD, address="198.51.100.200")
    assert answer.status_code == 303
    client.post("/logout")
    return client


def test_five_signups_per_hour_and_network_address(stranger: FlaskClient) -> None:
    for number in range(5):
        assert stranger.post("/signup", data={"email": f"n{number}@example.com"}).status_code == 303
    assert_limited(stranger.post("/signup", data={"email": "n9@example.com"}), 3600)
    other_address = {"REMOTE_ADDR": "192.0.2.9"}
    assert stranger.post("/signup", data={"email": "n9@example.com"}, environ_base=other_address).status_code == 303


def test_all_addresses_of_an_ipv6_network_count_as_one(stranger: FlaskClient) -> None:
    for number in range(6):
        address = {"REMOTE_ADDR": f"2001:db8:1:2:{number}::{number}"}
        answer = stranger.post("/signup", data={"email": f"n{number}@example.com"}, environ_base=address)
        assert answer.status_code == (303 if number < 5 else 429)
    other_network = {"REMOTE_ADDR": "2001:db8:1:3::1"}
    assert stranger.post("/signup", data={"email": "n9@example.com"}, environ_base=other_network).status_code == 303


def test_sessions_show_the_exact_address(app: Flask, database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice")
    client = new_client(app)
    data = {"email": "alice@example.com", "password": PASSWORD}
    client.post("/login", data=data, environ_base={"REMOTE_ADDR": "2001:db8:1:2:3:4:5:6"})
    assert "2001:db8:1:2:3:4:5:6" in client.get("/account").text


@pytest.mark.parametrize("email", ["alice@example.com", "nobody@example.com"])
def test_three_reset_mails_per_hour_and_email(stranger: FlaskClient, cast: Cast, email: str) -> None:
    for spelling in (email, email.upper(), f" {email} "):
        assert stranger.post("/forgot", data={"email": spelling}).status_code == 303
    assert_limited(stranger.post("/forgot", data={"email": email}), 3600)
    assert stranger.post("/forgot", data={"email": "other@example.com"}).status_code == 303


@pytest.mark.parametrize("email", ["alice@example.com", "nobody@example.com"])
def test_reset_mails_requested_elsewhere_do_not_use_up_the_limit(
    stranger: FlaskClient, cast: Cast, email: str
) -> None:
    for number in range(7):
        address = {"REMOTE_ADDR": "192.0.2.1" if number < 4 else f"192.0.2.{number}"}
        answer = stranger.post("/forgot", data={"email": email}, environ_base=address)
        assert answer.status_code == (429 if number == 3 else 303)
    assert_limited(stranger.post("/forgot", data={"email": email}, environ_base={"REMOTE_ADDR": "192.0.2.99"}), 3600)


def test_one_network_cannot_use_up_the_daily_mails_of_a_recipient(stranger: FlaskClient, redis_url: str) -> None:
    redis = connect(redis_url)
    for _ in range(2):
        for _ in range(3):
            assert stranger.post("/forgot", data={"email": "alice@example.com"}).status_code == 303
        redis.delete(*redis.keys("LIMITS*/hour*"))
    assert_limited(stranger.post("/forgot", data={"email": "alice@example.com"}), 86400)
    elsewhere = {"REMOTE_ADDR": "192.0.2.9"}
    assert stranger.post("/forgot", data={"email": "alice@example.com"}, environ_base=elsewhere).status_code == 303


@pytest.mark.parametrize("email", ["alice@example.com", "nobody@example.com"])
def test_ten_wrong_passwords_per_15_minutes_and_email_and_network(
    app: Flask, database: Database, cast: Cast, email: str
) -> None:
    give_password(database, cast, "alice")
    for _ in range(10):
        assert attempt(new_client(app), email, OTHER_PASSWORD).status_code == 422
    assert_limited(attempt(new_client(app), f" {email.title()}", PASSWORD), 900)
    assert attempt(new_client(app), "other@example.com", PASSWORD).status_code == 422


def test_wrong_passwords_from_another_network_do_not_refuse_the_owner(
    app: Flask, database: Database, cast: Cast
) -> None:
    give_password(database, cast, "alice")
    for _ in range(11):
        attempt(new_client(app), "alice@example.com", OTHER_PASSWORD, address="2001:db8::1")
    assert attempt(new_client(app), "alice@example.com", OTHER_PASSWORD, address="2001:db8::2").status_code == 429
    assert attempt(new_client(app), "alice@example.com", PASSWORD).status_code == 303


@pytest.mark.parametrize("email", ["alice@example.com", "nobody@example.com"])
def test_fifty_wrong_passwords_per_hour_and_email(app: Flask, database: Database, cast: Cast, email: str) -> None:
    give_password(database, cast, "alice")
    for number in range(50):
        answer = attempt(new_client(app), email, OTHER_PASSWORD, address=f"192.0.2.{number}")
        assert answer.status_code == 422
    refused = attempt(new_client(app), email, PASSWORD)
    assert_limited(refused, 3600)
    assert "reset your password" in refused.text


@pytest.fixture
def locked_account(app: Flask, database: Database, cast: Cast) -> FlaskClient:
    """Reach all limits for Alice's email, and return a browser from which she signed in before."""
    give_password(database, cast, "alice", "bob")
    known = sign_in(app, "alice")
    known.post("/logout")
    for number in range(50):
        attempt(new_client(app), "alice@example.com", OTHER_PASSWORD, address=f"192.0.2.{number}")
    for number in range(40):
        attempt(new_client(app), "alice@example.com" if number < 10 else f"n{number}@example.com", OTHER_PASSWORD)
    assert attempt(new_client(app), "alice@example.com", PASSWORD).status_code == 429
    return known


def test_browser_that_signed_in_before_is_never_refused(app: Flask, locked_account: FlaskClient) -> None:
    assert attempt(locked_account, "alice@example.com", PASSWORD).status_code == 303
    # A copy of the cookie for another account is of no use.
    other = sign_in_elsewhere(app, "bob")
    assert attempt(other, "alice@example.com", PASSWORD).status_code == 429


def test_browser_that_signed_in_before_has_ten_attempts(app: Flask, locked_account: FlaskClient) -> None:
    for number in range(10):
        address = f"198.51.100.{number}"
        assert attempt(locked_account, "alice@example.com", OTHER_PASSWORD, address=address).status_code == 422
    assert_limited(attempt(locked_account, "alice@example.com", PASSWORD), 900)


def test_browser_remembers_several_accounts(app: Flask, locked_account: FlaskClient) -> None:
    assert attempt(locked_account, "bob@example.com", PASSWORD, address="198.51.100.1").status_code == 303
    locked_account.post("/logout")
    assert attempt(locked_account, "alice@example.com", PASSWORD).status_code == 303


def test_forged_device_cookie_is_ignored(app: Flask, locked_account: FlaskClient, cast: Cast) -> None:
    cookie = locked_account.get_cookie("flotilla-device")
    assert cookie is not None
    forger = URLSafeTimedSerializer("another key, long enough to be accepted", salt="device cookie")
    for value in (forger.dumps(["x", [cast.people["alice"]]]), f"{cookie.value}x", cookie.value[1:], "x"):
        client = new_client(app)
        client.set_cookie("flotilla-device", value)
        assert attempt(client, "alice@example.com", PASSWORD).status_code == 429


def test_password_reset_gives_access_to_a_locked_account(
    app: Flask, locked_account: FlaskClient, mailer: MailDelivery
) -> None:
    client = new_client(app)
    client.post("/forgot", data={"email": "alice@example.com"})
    client.get(mailer.deliver_link_to("alice@example.com"))
    assert client.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 303
    assert attempt(client, "alice@example.com", OTHER_PASSWORD).status_code == 303


def test_successful_sign_ins_do_not_count(app: Flask, database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice")
    for _ in range(60):
        assert attempt(new_client(app), "alice@example.com", PASSWORD).status_code == 303


def test_device_cookie_is_bound_to_the_host_as_the_session_cookie(
    settings: Settings, redis_url: str, database: Database, cast: Cast
) -> None:
    give_password(database, cast, "alice")
    app = create_app(replace(settings, redis_url=redis_url, base_url="https://localhost"))
    app.config["WTF_CSRF_ENABLED"] = False
    answer = attempt(new_client(app), "alice@example.com", PASSWORD)
    [cookie] = [text for text in answer.headers.getlist("Set-Cookie") if "device" in text]
    assert cookie.startswith("__Host-flotilla-device=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


def test_thirty_wrong_passwords_per_15_minutes_and_network(app: Flask) -> None:
    for number in range(30):
        assert attempt(new_client(app), f"n{number}@example.com", PASSWORD).status_code == 422
    assert_limited(attempt(new_client(app), "n99@example.com", PASSWORD), 900)


def test_thirty_reset_mails_per_hour_and_network_address(stranger: FlaskClient) -> None:
    for number in range(30):
        assert stranger.post("/forgot", data={"email": f"n{number}@example.com"}).status_code == 303
    assert_limited(stranger.post("/forgot", data={"email": "n99@example.com"}), 3600)


@pytest.mark.parametrize(
    ("path", "email"), [("/login", f"{60 * 'a'}@{'.'.join(3 * [60 * 'b'])}.example"), ("/forgot", 100_000 * "a")]
)
def test_long_posted_email_makes_a_short_limit_key(
    stranger: FlaskClient, redis_url: str, path: str, email: str
) -> None:
    assert stranger.post(path, data={"email": email, "password": PASSWORD}).status_code == 422
    keys = connect(redis_url).keys("LIMITS*")
    assert keys
    assert max(len(key) for key in keys) < 200


def test_all_forms_that_ask_for_the_current_password_share_one_limit(
    app: Flask, database: Database, cast: Cast
) -> None:
    give_password(database, cast, "bob", "carol")
    bob, carol = sign_in(app, "bob"), sign_in(app, "carol")
    forms = ["/account/password", "/account/address", "/account/delete"]
    for number in range(10):
        assert bob.post(forms[number % 3]).status_code == 422
    for path in forms:
        assert_limited(bob.post(path), 900)
    assert carol.post("/account/delete").status_code == 422


def test_forged_forwarded_address_does_not_avoid_the_limit(stranger: FlaskClient) -> None:
    for number in range(5):
        forged = {"X-Forwarded-For": f"192.0.2.{number}"}
        assert stranger.post("/signup", data={"email": f"n{number}@example.com"}, headers=forged).status_code == 303
    forged = {"X-Forwarded-For": "192.0.2.99"}
    assert stranger.post("/signup", data={"email": "n9@example.com"}, headers=forged).status_code == 429


def test_address_from_a_trusted_proxy_is_counted(settings: Settings, redis_url: str) -> None:
    app = create_app(replace(settings, redis_url=redis_url, base_url="http://localhost", trusted_proxies=1))
    app.config["WTF_CSRF_ENABLED"] = False
    client = new_client(app)
    for number in range(6):
        forwarded = {"X-Forwarded-For": f"203.0.113.{number}, 192.0.2.1"}
        status = client.post("/signup", data={"email": f"n{number}@example.com"}, headers=forwarded).status_code
        assert status == (303 if number < 5 else 429)
    forwarded = {"X-Forwarded-For": "203.0.113.1, 192.0.2.2"}
    assert client.post("/signup", data={"email": "n9@example.com"}, headers=forwarded).status_code == 303


def test_limits_are_counted_in_memory_when_redis_is_down(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # All apps of this process share the limiter, so its state is restored for the next test.
    monkeypatch.setattr(limiter, "_storage_dead", False)
    app = create_app(replace(settings, redis_url="redis://127.0.0.1:1", base_url="http://localhost"))
    app.config["WTF_CSRF_ENABLED"] = False
    client = new_client(app)
    statuses = [client.post("/signup", data={"email": "nina@example.com"}).status_code for _ in range(6)]
    assert statuses == [303] * 5 + [429]
