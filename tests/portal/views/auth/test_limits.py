"""Tests of rate limits: how many requests they allow, and what they count by."""

import re
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.app import create_app
from portal.database import Database
from portal.queue import connect
from portal.settings import Settings
from portal.web.extensions import limiter
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, browser, give_password, sign_in
from tests.support.cast import Cast


def assert_limited(answer: TestResponse, max_seconds: int) -> None:
    """Check that the answer says, in its text and in its header, when to try again."""
    assert answer.status_code == 429
    seconds = int(answer.headers["Retry-After"])
    assert 0 < seconds <= max_seconds
    minutes = re.search(r"Try again in (\d+) minute", answer.text)
    assert minutes is not None
    assert abs(60 * int(minutes[1]) - seconds) <= 60


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
    client = browser(app)
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
def test_ten_sign_in_attempts_per_15_minutes_and_email(
    app: Flask, stranger: FlaskClient, database: Database, cast: Cast, email: str
) -> None:
    give_password(database, cast, "alice")
    for number in range(10):
        data = {"email": email, "password": OTHER_PASSWORD}
        other_address = {"REMOTE_ADDR": f"192.0.2.{number}"}
        assert stranger.post("/login", data=data, environ_base=other_address).status_code == 422
    assert_limited(stranger.post("/login", data={"email": email.title(), "password": PASSWORD}), 900)


def test_thirty_sign_in_attempts_per_15_minutes_and_network_address(stranger: FlaskClient) -> None:
    for number in range(30):
        assert stranger.post("/login", data={"email": f"n{number}@example.com"}).status_code == 422
    assert_limited(stranger.post("/login", data={"email": "n99@example.com"}), 900)


def test_thirty_reset_mails_per_hour_and_network_address(stranger: FlaskClient) -> None:
    for number in range(30):
        assert stranger.post("/forgot", data={"email": f"n{number}@example.com"}).status_code == 303
    assert_limited(stranger.post("/forgot", data={"email": "n99@example.com"}), 3600)


@pytest.mark.parametrize("path", ["/login", "/forgot"])
def test_long_posted_email_makes_a_short_limit_key(stranger: FlaskClient, redis_url: str, path: str) -> None:
    assert stranger.post(path, data={"email": 100_000 * "a", "password": PASSWORD}).status_code == 422
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
    client = browser(app)
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
    client = browser(app)
    statuses = [client.post("/signup", data={"email": "nina@example.com"}).status_code for _ in range(6)]
    assert statuses == [303] * 5 + [429]
