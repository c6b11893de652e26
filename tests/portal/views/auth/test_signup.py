"""Signing up: the address first, name and password behind the mailed link."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, OneTimeToken, User, utcnow
from portal.services.accounts import accounts
from tests.support.cast import Cast, SignedIn
from tests.support.outbox import Post, links_in

PASSWORD = "tree lamp river stone"


def browser(app: Flask) -> FlaskClient:
    """Another browser that nobody is signed in with."""
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    return client


def users(database: Database) -> list[str]:
    """All addresses that have an account."""
    with database.reading() as session:
        return sorted(user.email for user in session.query(User))


def test_a_new_person_signs_up(stranger: FlaskClient, post: Post, database: Database) -> None:
    asked = stranger.post("/signup", data={"email": " Nina@Example.com "})
    assert (asked.status_code, asked.location) == (303, "/signup/sent")
    assert "Nina@Example.com" in stranger.get("/signup/sent").text
    assert users(database) == []

    link = post.link("Nina@Example.com")
    followed = stranger.get(link)
    assert (followed.status_code, followed.location) == (303, "/signup/finish")
    assert "Nina@Example.com" in stranger.get("/signup/finish").text

    made = stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD})
    assert (made.status_code, made.location) == (303, "/")
    assert "Welcome, Nina." in stranger.get("/orgs").text
    with database.reading() as session:
        tags = [event.tag for event in session.query(Event).order_by(Event.id)]
        assert tags == ["user.signed_up"]

    stranger.post("/logout")
    assert stranger.post("/login", data={"email": "nina@example.com", "password": PASSWORD}).location == "/"


def test_an_address_with_an_account_gets_another_mail_and_no_link_to_sign_up(
    stranger: FlaskClient, post: Post, cast: Cast
) -> None:
    asked = stranger.post("/signup", data={"email": "ALICE@example.com"})
    assert (asked.status_code, asked.location) == (303, "/signup/sent")
    message = post.one_to("ALICE@example.com")
    assert "already have an account" in message["Subject"]
    assert links_in(message) == ["/login", "/forgot"]


def test_following_the_link_consumes_nothing(app: Flask, stranger: FlaskClient, post: Post) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    link = post.link("nina@example.com")
    scanner = browser(app)
    for _ in range(3):
        assert scanner.get(link, follow_redirects=True).status_code == 200
        assert scanner.head(link).status_code == 303
    stranger.get(link)
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).location == "/"


def test_the_link_works_once(app: Flask, stranger: FlaskClient, post: Post, database: Database) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    link = post.link("nina@example.com")
    stranger.get(link)
    other = browser(app)
    other.get(link)
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code == 303
    answer = other.post("/signup/finish", data={"name": "Mallory", "password": PASSWORD})
    assert answer.status_code == 410
    assert "This link does not work" in answer.text
    assert other.get(link, follow_redirects=True).status_code == 410
    assert users(database) == ["nina@example.com"]


def test_of_two_links_to_one_address_the_second_finds_the_account(
    app: Flask, stranger: FlaskClient, post: Post, database: Database
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.post("/signup", data={"email": "Nina@example.com"})
    first, second = (links_in(message)[0] for message in post.deliver())
    stranger.get(first)
    other = browser(app)
    other.get(second)
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code == 303
    answer = other.post("/signup/finish", data={"name": "Nina", "password": PASSWORD})
    assert answer.status_code == 409
    assert "has an account already" in answer.text
    assert len(users(database)) == 1


def test_the_link_is_good_for_an_hour(stranger: FlaskClient, post: Post, database: Database) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.get(post.link("nina@example.com"))
    with database.transaction() as session:
        row = session.query(OneTimeToken).one()
        assert row.expires_at - row.created_at <= timedelta(minutes=60)
        assert row.expires_at > utcnow() + timedelta(minutes=59)
        row.expires_at = utcnow()
    assert stranger.get("/signup/finish").status_code == 410
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code == 410


@pytest.mark.parametrize("link", ["/signup/nonsense", "/signup/" + "x" * 43, "/signup/" + "x" * 3000])
def test_an_invented_link_leads_nowhere(stranger: FlaskClient, link: str) -> None:
    assert stranger.get(link, follow_redirects=True).status_code == 410
    cookie = stranger.get_cookie("flotilla-visitor")
    assert cookie is None or len(cookie.value) < 500


def test_a_link_for_a_password_makes_no_account(stranger: FlaskClient, post: Post, cast: Cast) -> None:
    stranger.post("/forgot", data={"email": "alice@example.com"})
    token = post.link("alice@example.com").removeprefix("/reset/")
    assert stranger.get(f"/signup/{token}", follow_redirects=True).status_code == 410
    assert stranger.get(f"/account/email/{token}").status_code == 303
    assert stranger.get(f"/reset/{token}", follow_redirects=True).status_code == 200


@pytest.mark.parametrize(
    ("name", "password", "complaint"),
    [
        ("", PASSWORD, "Tell us your name"),
        ("Ni\nna", PASSWORD, "printable"),
        ("x" * 101, PASSWORD, "at most"),
        ("Nina", "", "Choose a password"),
        ("Nina", "short", "15 characters or more"),
        ("Nina", "flotilla flotilla!", "easy to guess"),
        ("Nina", "nina.example.nina", "easy to guess"),
    ],
)
def test_a_refused_form_leaves_the_link_as_it_was(
    stranger: FlaskClient, post: Post, name: str, password: str, complaint: str
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.get(post.link("nina@example.com"))
    answer = stranger.post("/signup/finish", data={"name": name, "password": password})
    assert answer.status_code == 422
    assert complaint in answer.text
    assert PASSWORD not in answer.text
    assert stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code == 303


def test_a_name_is_shown_as_it_is_and_does_nothing(stranger: FlaskClient, post: Post) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.get(post.link("nina@example.com"))
    stranger.post("/signup/finish", data={"name": "<b>Nina</b> https://evil.example", "password": PASSWORD})
    page = stranger.get("/account").text
    assert "<b>Nina</b>" not in page
    assert "&lt;b&gt;Nina&lt;/b&gt;" in page


@pytest.mark.parametrize("email", ["", "nobody", "a@b@c", "stra\N{LATIN SMALL LETTER SHARP S}e@example.com"])
def test_what_is_no_address_is_refused_at_once(stranger: FlaskClient, database: Database, email: str) -> None:
    assert stranger.post("/signup", data={"email": email}).status_code == 422
    assert stranger.post("/forgot", data={"email": email}).status_code == 422
    with database.reading() as session:
        assert session.query(OneTimeToken).count() == 0


def test_public_sign_up_can_be_switched_off(
    app: Flask, stranger: FlaskClient, post: Post, database: Database
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    stranger.get(post.link("nina@example.com"))
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
        assert "by invitation" in answer.text
    assert users(database) == []
    assert post.deliver() == []


def test_signing_up_ends_the_session_this_browser_had(
    app: Flask, signed_in: SignedIn, post: Post, database: Database
) -> None:
    alice = signed_in("alice")
    cookie = alice.get_cookie("flotilla-session")
    assert cookie is not None
    browser(app).post("/signup", data={"email": "nina@example.com"})
    alice.get(post.link("nina@example.com"))
    alice.post("/signup/finish", data={"name": "Nina", "password": PASSWORD})
    assert "nina@example.com" in alice.get("/account").text
    old = browser(app)
    old.set_cookie("flotilla-session", cookie.value)
    assert old.get("/account").location == "/login?next=/account"


def test_tokens_and_passwords_are_in_no_table(stranger: FlaskClient, post: Post, database: Database) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    link = post.link("nina@example.com")
    stranger.get(link)
    stranger.post("/signup/finish", data={"name": "Nina", "password": PASSWORD})
    stranger.post("/forgot", data={"email": "nina@example.com"})
    reset = post.link("nina@example.com")
    cookie = stranger.get_cookie("flotilla-session")
    assert cookie is not None
    with database.reading() as session:
        dump = "\n".join(
            repr(tuple(row)) for table in User.metadata.sorted_tables for row in session.execute(table.select())
        )
    for secret in (link.rpartition("/")[2], reset.rpartition("/")[2], cookie.value, PASSWORD):
        assert secret not in dump
    assert "nina@example.com" in dump


def test_the_account_of_somebody_else_cannot_be_had_by_a_similar_address(database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        assert accounts.find_by_email(session, "ALICE@EXAMPLE.COM") is not None
        assert accounts.find_by_email(session, "al\N{LATIN SMALL LETTER DOTLESS I}ce@example.com") is None


def test_of_many_who_use_a_link_at_once_one_makes_the_account(
    app: Flask, stranger: FlaskClient, post: Post, database: Database
) -> None:
    stranger.post("/signup", data={"email": "nina@example.com"})
    link = post.link("nina@example.com")
    browsers = [browser(app) for _ in range(8)]
    for client in browsers:
        client.get(link)

    def finish(client: FlaskClient) -> int:
        return client.post("/signup/finish", data={"name": "Nina", "password": PASSWORD}).status_code

    with ThreadPoolExecutor(len(browsers)) as threads:
        statuses = list(threads.map(finish, browsers))
    assert sorted(statuses) == [303] + [410] * 7
    with database.reading() as session:
        assert [event.tag for event in session.query(Event)] == ["user.signed_up"]
