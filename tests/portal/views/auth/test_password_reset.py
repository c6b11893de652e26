"""Tests of the password reset by mail."""

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, OneTimeToken, User, utcnow
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, give_password, is_signed_in, new_client, sign_in
from tests.support.cast import Cast
from tests.support.outbox import MailDelivery, links_in

pytestmark = pytest.mark.requests


@pytest.fixture(autouse=True)
def _set_password(database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice")


def request_reset(client: FlaskClient, email: str = "alice@example.com") -> None:
    """Request a reset mail and check the answer, which is the same for every email."""
    answer = client.post("/forgot", data={"email": email})
    assert (answer.status_code, answer.location) == (303, "/forgot/sent")
    assert "Check your inbox" in client.get("/forgot/sent").text


@pytest.mark.every_database
def test_reset_sets_the_password_and_ends_all_sessions(
    app: Flask, stranger: FlaskClient, mailer: MailDelivery, database: Database
) -> None:
    other_browser = sign_in(app, "alice")
    request_reset(stranger)
    assert stranger.get(mailer.deliver_link_to("alice@example.com")).location == "/reset"
    assert "alice@example.com" in stranger.get("/reset").text

    answer = stranger.post("/reset", data={"password": OTHER_PASSWORD})
    assert (answer.status_code, answer.location) == (303, "/login")
    assert "Password changed" in stranger.get("/login").text
    assert not is_signed_in(stranger)
    assert not is_signed_in(other_browser)
    assert stranger.post("/login", data={"email": "alice@example.com", "password": PASSWORD}).status_code == 422
    assert is_signed_in(sign_in(app, "alice", OTHER_PASSWORD))
    assert "was changed" in mailer.deliver_one_to("alice@example.com")["Subject"]
    with database.reading() as session:
        event = session.query(Event).filter_by(tag="user.password_changed").one()
        assert event.data["sessions_ended"] == 1


def test_email_without_account_gets_a_mail_that_says_so(stranger: FlaskClient, mailer: MailDelivery) -> None:
    request_reset(stranger, "nobody@example.com")
    message = mailer.deliver_one_to("nobody@example.com")
    assert "No account" in message["Subject"]
    assert links_in(message) == ["/signup"]


def test_account_without_password_gets_its_first_one(app: Flask, stranger: FlaskClient, mailer: MailDelivery) -> None:
    request_reset(stranger, "bob@example.com")
    stranger.get(mailer.deliver_link_to("bob@example.com"))
    assert stranger.post("/reset", data={"password": PASSWORD}).location == "/login"
    assert is_signed_in(sign_in(app, "bob"))


def test_following_the_link_does_not_use_it_up(app: Flask, stranger: FlaskClient, mailer: MailDelivery) -> None:
    alice = sign_in(app, "alice")
    request_reset(stranger)
    link = mailer.deliver_link_to("alice@example.com")
    for _ in range(3):
        assert new_client(app).get(link, follow_redirects=True).status_code == 200
    assert is_signed_in(alice)
    stranger.get(link)
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 303


@pytest.mark.every_database
def test_used_link_invalidates_all_reset_links_of_the_account(
    app: Flask, stranger: FlaskClient, mailer: MailDelivery
) -> None:
    request_reset(stranger)
    request_reset(stranger)
    first, second = (links_in(message)[0] for message in mailer.deliver())
    stranger.get(second)
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 303
    for link in (first, second):
        assert new_client(app).get(link, follow_redirects=True).status_code == 410
        other = new_client(app)
        other.get(link)
        assert other.post("/reset", data={"password": PASSWORD}).status_code == 410


def test_password_change_invalidates_reset_links(app: Flask, stranger: FlaskClient, mailer: MailDelivery) -> None:
    alice = sign_in(app, "alice")
    request_reset(stranger)
    link = mailer.deliver_link_to("alice@example.com")
    data = {"password-current_password": PASSWORD, "password-password": OTHER_PASSWORD}
    assert alice.post("/account/password", data=data).status_code == 303
    assert stranger.get(link, follow_redirects=True).status_code == 410


def test_link_expires_after_an_hour(stranger: FlaskClient, mailer: MailDelivery, database: Database) -> None:
    request_reset(stranger)
    stranger.get(mailer.deliver_link_to("alice@example.com"))
    with database.transaction() as session:
        row = session.query(OneTimeToken).one()
        assert timedelta(minutes=59) < row.expires_at - utcnow() <= timedelta(minutes=60)
        row.expires_at = utcnow()
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 410


def test_disabled_account_cannot_reset_its_password(
    stranger: FlaskClient, mailer: MailDelivery, database: Database, cast: Cast
) -> None:
    request_reset(stranger)
    stranger.get(mailer.deliver_link_to("alice@example.com"))
    with database.transaction() as session:
        session.get_one(User, cast.people["alice"]).disabled_at = utcnow()
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 410
    request_reset(stranger)
    assert links_in(mailer.deliver_one_to("alice@example.com")) == []


def test_refused_password_keeps_the_link_valid(stranger: FlaskClient, mailer: MailDelivery) -> None:
    request_reset(stranger)
    stranger.get(mailer.deliver_link_to("alice@example.com"))
    answer = stranger.post("/reset", data={"password": "alice alice alice"})
    assert answer.status_code == 422
    assert "easy to guess" in answer.text
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 303


def test_links_use_base_url_and_not_the_host_of_the_request(stranger: FlaskClient, mailer: MailDelivery) -> None:
    answer = stranger.post("/forgot", data={"email": "alice@example.com"}, base_url="http://evil.example")
    assert answer.status_code == 400
    assert mailer.deliver() == []
    forwarded = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    stranger.post("/forgot", data={"email": "alice@example.com"}, headers=forwarded)
    # `mailer.link` checks the host of the link.
    assert mailer.deliver_link_to("alice@example.com").startswith("/reset/")


def test_stored_token_expires_after_an_hour_in_the_cookie(
    stranger: FlaskClient, mailer: MailDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_reset(stranger)
    stranger.get(mailer.deliver_link_to("alice@example.com"))
    assert stranger.get("/reset").status_code == 200
    with stranger.session_transaction() as cookie:
        token, stored_at = cookie["pending"]["reset"]
        cookie["pending"] = {"reset": [token, stored_at - 3600]}
    assert stranger.get("/reset").status_code == 410


def test_sign_in_clears_the_stored_reset_token(app: Flask, stranger: FlaskClient, mailer: MailDelivery) -> None:
    request_reset(stranger)
    stranger.get(mailer.deliver_link_to("alice@example.com"))
    stranger.post("/login", data={"email": "alice@example.com", "password": PASSWORD})
    assert stranger.get("/reset").status_code == 410
