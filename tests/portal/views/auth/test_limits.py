"""How often one may try, and who is counted."""

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


def refused(answer: TestResponse, longest: int) -> None:
    """The answer says when to try again, to people and to programs."""
    assert answer.status_code == 429
    seconds = int(answer.headers["Retry-After"])
    assert 0 < seconds <= longest
    said = re.search(r"Try again in (\d+) minute", answer.text)
    assert said is not None
    assert abs(60 * int(said[1]) - seconds) <= 60


def test_five_sign_ups_an_hour_from_one_address_of_the_network(stranger: FlaskClient) -> None:
    for number in range(5):
        assert stranger.post("/signup", data={"email": f"n{number}@example.com"}).status_code == 303
    refused(stranger.post("/signup", data={"email": "n9@example.com"}), 3600)
    elsewhere = {"REMOTE_ADDR": "192.0.2.9"}
    assert stranger.post("/signup", data={"email": "n9@example.com"}, environ_base=elsewhere).status_code == 303


@pytest.mark.parametrize("email", ["alice@example.com", "nobody@example.com"])
def test_three_reset_mails_an_hour_to_one_address(stranger: FlaskClient, cast: Cast, email: str) -> None:
    for spelling in (email, email.upper(), f" {email} "):
        assert stranger.post("/forgot", data={"email": spelling}).status_code == 303
    refused(stranger.post("/forgot", data={"email": email}), 3600)
    assert stranger.post("/forgot", data={"email": "other@example.com"}).status_code == 303


@pytest.mark.parametrize("email", ["alice@example.com", "nobody@example.com"])
def test_ten_sign_ins_in_a_quarter_of_an_hour_at_one_account(
    app: Flask, stranger: FlaskClient, database: Database, cast: Cast, email: str
) -> None:
    give_password(database, cast, "alice")
    for number in range(10):
        data = {"email": email, "password": OTHER_PASSWORD}
        elsewhere = {"REMOTE_ADDR": f"192.0.2.{number}"}
        assert stranger.post("/login", data=data, environ_base=elsewhere).status_code == 422
    refused(stranger.post("/login", data={"email": email.title(), "password": PASSWORD}), 900)


def test_thirty_sign_ins_in_a_quarter_of_an_hour_from_one_address_of_the_network(stranger: FlaskClient) -> None:
    for number in range(30):
        assert stranger.post("/login", data={"email": f"n{number}@example.com"}).status_code == 422
    refused(stranger.post("/login", data={"email": "n99@example.com"}), 900)


def test_thirty_reset_mails_an_hour_from_one_address_of_the_network(stranger: FlaskClient) -> None:
    for number in range(30):
        assert stranger.post("/forgot", data={"email": f"n{number}@example.com"}).status_code == 303
    refused(stranger.post("/forgot", data={"email": "n99@example.com"}), 3600)


@pytest.mark.parametrize("path", ["/login", "/forgot"])
def test_what_is_counted_is_short_however_much_is_posted(stranger: FlaskClient, redis_url: str, path: str) -> None:
    assert stranger.post(path, data={"email": 100_000 * "a", "password": PASSWORD}).status_code == 422
    keys = connect(redis_url).keys("LIMITS*")
    assert keys
    assert max(len(key) for key in keys) < 200


def test_asking_for_one_s_own_password_has_one_limit_for_all_forms(
    app: Flask, database: Database, cast: Cast
) -> None:
    give_password(database, cast, "bob", "carol")
    bob, carol = sign_in(app, "bob"), sign_in(app, "carol")
    forms = ["/account/password", "/account/address", "/account/delete"]
    for number in range(10):
        assert bob.post(forms[number % 3]).status_code == 422
    for path in forms:
        refused(bob.post(path), 900)
    assert carol.post("/account/delete").status_code == 422


def test_an_address_that_the_visitor_claims_is_not_counted(stranger: FlaskClient) -> None:
    for number in range(5):
        forged = {"X-Forwarded-For": f"192.0.2.{number}"}
        assert stranger.post("/signup", data={"email": f"n{number}@example.com"}, headers=forged).status_code == 303
    forged = {"X-Forwarded-For": "192.0.2.99"}
    assert stranger.post("/signup", data={"email": "n9@example.com"}, headers=forged).status_code == 429


def test_behind_a_trusted_proxy_its_word_counts_and_no_more(settings: Settings, redis_url: str) -> None:
    app = create_app(replace(settings, redis_url=redis_url, base_url="http://localhost", trusted_proxies=1))
    app.config["WTF_CSRF_ENABLED"] = False
    client = browser(app)
    for number in range(6):
        told = {"X-Forwarded-For": f"203.0.113.{number}, 192.0.2.1"}
        status = client.post("/signup", data={"email": f"n{number}@example.com"}, headers=told).status_code
        assert status == (303 if number < 5 else 429)
    told = {"X-Forwarded-For": "203.0.113.1, 192.0.2.2"}
    assert client.post("/signup", data={"email": "n9@example.com"}, headers=told).status_code == 303


def test_without_redis_limits_are_counted_in_memory(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # The limiter is one for all portals of this process; what it learns here is undone for the next test.
    monkeypatch.setattr(limiter, "_storage_dead", False)
    app = create_app(replace(settings, redis_url="redis://127.0.0.1:1", base_url="http://localhost"))
    app.config["WTF_CSRF_ENABLED"] = False
    client = browser(app)
    statuses = [client.post("/signup", data={"email": "nina@example.com"}).status_code for _ in range(6)]
    assert statuses == [303] * 5 + [429]
