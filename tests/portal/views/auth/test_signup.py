"""Tests of sign-up: request a link by mail, then choose name and password."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, OneTimeToken, User, utcnow
from portal.services.accounts import accounts
from tests.portal.views.people import PASSWORD, new_client
from tests.support.cast import Cast, SignedIn
from tests.support.outbox import MailDelivery, links_in

pytestmark = pytest.mark.requests


def list_emails(database: Database) -> list[str]:
    """Return the emails of all accounts."""
    with database.reading() as session:
        return sorted(user.email for user in session.query(User))


@pytest.mark.every_database
def test_new_person_signs_up(stranger: FlaskClient, mailer: MailDelivery, database: Database) -> None:
    requested = stranger.post("/signup", data={"email": " Nina@Example.com "})
    assert (requested.status_code, requested.location) == (303, "/signup/sent")
    assert "Nina@Example.com" in stranger.get("/signup/sent").text
    assert list_emails(database) == []

    link = mailer.deliver_link_to("Nina@Example.com")
    followed = stranger.get(link)
    assert (followed.status_code, followed.location) == (303, "/signup/finish")
    assert "Nina@Example.com" in stranger.get("/signup/finish").text

    created = stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD})
    assert (created.status_code, created.location) == (303, "/")
    assert "Welcome, Nina." in stranger.get("/orgs").text
    with database.reading() as session:
        tags = [event.tag for event in session.query(Event).order_by(Event.id)]
        assert tags == ["user.signed_up"]

    stranger.post("/logout")
    assert stranger.post("/login", data={"email": "nina@example.com", "password": PASSWORD}).location == "/"


@pytest.mark.every_database
def test_email_with_an_account_gets_a_mail_without_signup_link(
    stranger: FlaskClient, mailer: MailDelivery, cast: Cast
) -> None:
    requested = stranger.post("/signup", data={"email": "ALICE@example.com"})
    assert (requested.status_code, requested.location) == (303, "/signup/sent")
    message = mailer.deliver_one_to("ALICE@example.com")
    assert "already have an account" in message["Subject"]
    assert links_in(message) == ["/login", "/forgot"]


def test_following_the_link_does_not_use_it_up(app: Flask, stranger: FlaskClient, mailer: MailDelivery) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    link = mailer.deliver_link_to("nina@example.com")
    scanner = new_client(app)
    for _ in range(3):
        assert scanner.get(link, follow_redirects=True).status_code == 200
        assert scanner.head(link).status_code == 303
    stranger.get(link)
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).location == "/"


def test_link_works_once(app: Flask, stranger: FlaskClient, mailer: MailDelivery, database: Database) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    link = mailer.deliver_link_to("nina@example.com")
    stranger.get(link)
    other = new_client(app)
    other.get(link)
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code == 303
    answer = other.post("/signup/finish", data={"name": "Mallory", "password": PASSWORD})
    assert answer.status_code == 410
    assert "This link is not valid" in answer.text
    assert other.get(link, follow_redirects=True).status_code == 410
    assert list_emails(database) == ["nina@example.com"]


@pytest.mark.every_database
def test_second_link_to_one_email_cannot_create_a_second_account(
    app: Flask, stranger: FlaskClient, mailer: MailDelivery, database: Database
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.post("/signup", data={"email": "Nina@example.com"})
    first, second = (links_in(message)[0] for message in mailer.deliver())
    stranger.get(first)
    other = new_client(app)
    other.get(second)
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code == 303
    answer = other.post("/signup/finish", data={"name": "Nina", "password": PASSWORD})
    assert answer.status_code == 409
    assert "already has an account" in answer.text
    assert len(list_emails(database)) == 1


def test_link_expires_after_an_hour(stranger: FlaskClient, mailer: MailDelivery, database: Database) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.get(mailer.deliver_link_to("nina@example.com"))
    with database.transaction() as session:
        row = session.query(OneTimeToken).one()
        assert row.expires_at - row.created_at <= timedelta(minutes=60)
        assert row.expires_at > utcnow() + timedelta(minutes=59)
        row.expires_at = utcnow()
    assert stranger.get("/signup/finish").status_code == 410
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code == 410


@pytest.mark.parametrize("link", ["/signup/nonsense", "/signup/" + "x" * 43, "/signup/" + "x" * 3000])
def test_unknown_link_is_refused_and_not_stored(stranger: FlaskClient, link: str) -> None:
    assert stranger.get(link, follow_redirects=True).status_code == 410
    cookie = stranger.get_cookie("flotilla-visitor")
    assert cookie is None or len(cookie.value) < 500


def test_reset_link_cannot_create_an_account(stranger: FlaskClient, mailer: MailDelivery, cast: Cast) -> None:
    stranger.post("/forgot", data={"email": "alice@example.com"})
    token = mailer.deliver_link_to("alice@example.com").removeprefix("/reset/")
    assert stranger.get(f"/signup/{token}", follow_redirects=True).status_code == 410
    assert stranger.get(f"/account/email/{token}").status_code == 303
    assert stranger.get(f"/reset/{token}", follow_redirects=True).status_code == 200


@pytest.mark.parametrize(
    ("name", "password", "complaint"),
    [
        ("", PASSWORD, "Enter your name"),
        ("Ni\nna", PASSWORD, "printable"),
        ("x" * 101, PASSWORD, "at most"),
        ("Nina", "", "Choose a password"),
        ("Nina", "short", "15 characters or more"),
        ("Nina", "flotilla flotilla!", "easy to guess"),
        ("Nina", "nina.example.nina", "easy to guess"),
    ],
)
def test_invalid_form_keeps_the_link_valid(
    stranger: FlaskClient, mailer: MailDelivery, name: str, password: str, complaint: str
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.get(mailer.deliver_link_to("nina@example.com"))
    answer = stranger.post("/signup/finish", data={"name": name, "password": password})
    assert answer.status_code == 422
    assert complaint in answer.text
    assert PASSWORD not in answer.text
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code == 303


def test_name_with_markup_is_escaped(stranger: FlaskClient, mailer: MailDelivery) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.get(mailer.deliver_link_to("nina@example.com"))
    stranger.post("/signup/finish", data={"name": "<b>Nina</b> https://evil.example", "password": PASSWORD})
    page = stranger.get("/account").text
    assert "<b>Nina</b>" not in page
    assert "&lt;b&gt;Nina&lt;/b&gt;" in page


@pytest.mark.parametrize("email", ["", "nobody", "a@b@c", "stra\N{LATIN SMALL LETTER SHARP S}e@example.com"])
def test_invalid_email_is_refused(stranger: FlaskClient, database: Database, email: str) -> None:
    assert stranger.post("/signup", data={"email": email}).status_code == 422
    assert stranger.post("/forgot", data={"email": email}).status_code == 422
    with database.reading() as session:
        assert session.query(OneTimeToken).count() == 0


def test_public_signup_can_be_turned_off(
    app: Flask, stranger: FlaskClient, mailer: MailDelivery, database: Database
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.get(mailer.deliver_link_to("nina@example.com"))
    assert "/signup" in stranger.get("/login").text

    app.extensions["settings"] = replace(app.extensions["settings"], public_signup=False)
    assert "/signup" not in stranger.get("/login").text
    for answer in (
        stranger.get("/signup"),
        stranger.post("/signup", data={"email": "other@example.com"}),
        stranger.get("/signup/finish"),
        stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}),
    ):
        assert answer.status_code == 403
        assert "need an invitation" in answer.text
    assert list_emails(database) == []
    assert mailer.deliver() == []


def test_signup_ends_the_previous_session_of_the_browser(
    app: Flask, signed_in: SignedIn, mailer: MailDelivery, database: Database
) -> None:
    alice = signed_in("alice")
    cookie = alice.get_cookie("flotilla-session")
    assert cookie is not None
    new_client(app).post("/signup", data={"email": "nina@example.com"})
    alice.get(mailer.deliver_link_to("nina@example.com"))
    alice.post("/signup/finish", data={"name": "Nina", "password": PASSWORD})
    assert "nina@example.com" in alice.get("/account").text
    old = new_client(app)
    old.set_cookie("flotilla-session", cookie.value)
    assert old.get("/account").location == "/login?next=/account"


def test_database_contains_no_tokens_or_passwords(
    stranger: FlaskClient, mailer: MailDelivery, database: Database
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    link = mailer.deliver_link_to("nina@example.com")
    stranger.get(link)
    stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD})
    stranger.post("/forgot", data={"email": "nina@example.com"})
    reset = mailer.deliver_link_to("nina@example.com")
    cookie = stranger.get_cookie("flotilla-session")
    assert cookie is not None
    with database.reading() as session:
        dump = "\n".join(
            repr(tuple(row)) for table in User.metadata.sorted_tables for row in session.execute(table.select())
        )
    for secret in (link.rpartition("/")[2], reset.rpartition("/")[2], cookie.value, PASSWORD):
        assert secret not in dump
    assert "nina@example.com" in dump


@pytest.mark.every_database
def test_similar_unicode_email_does_not_match_an_account(database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        assert accounts.find_by_email(session, "ALICE@EXAMPLE.COM") is not None
        assert accounts.find_by_email(session, "al\N{LATIN SMALL LETTER DOTLESS I}ce@example.com") is None


@pytest.mark.every_database
def test_concurrent_use_of_one_link_creates_one_account(
    app: Flask, stranger: FlaskClient, mailer: MailDelivery, database: Database
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    link = mailer.deliver_link_to("nina@example.com")
    browsers = [new_client(app) for _ in range(8)]
    for client in browsers:
        client.get(link)

    def finish(client: FlaskClient) -> int:
        return client.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code

    with ThreadPoolExecutor(len(browsers)) as threads:
        statuses = list(threads.map(finish, browsers))
    assert sorted(statuses) == [303] + [410] * 7
    with database.reading() as session:
        assert [event.tag for event in session.query(Event)] == ["user.signed_up"]
