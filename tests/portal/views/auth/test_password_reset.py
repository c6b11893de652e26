"""A forgotten password."""

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, OneTimeToken, User, utcnow
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, browser, give_password, is_signed_in, sign_in
from tests.support.cast import Cast
from tests.support.outbox import Post, links_in


@pytest.fixture(autouse=True)
def _alice_has_a_password(database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice")


def ask(client: FlaskClient, email: str = "alice@example.com") -> None:
    """Ask for the mail, and look at the answer, which is always the same."""
    answer = client.post("/forgot", data={"email": email})
    assert (answer.status_code, answer.location) == (303, "/forgot/sent")
    assert "Look into your mail" in client.get("/forgot/sent").text


def test_a_forgotten_password_is_set_anew_and_every_session_ends(
    app: Flask, stranger: FlaskClient, post: Post, database: Database
) -> None:
    elsewhere = sign_in(app, "alice")
    ask(stranger)
    assert stranger.get(post.link("alice@example.com")).location == "/reset"
    assert "alice@example.com" in stranger.get("/reset").text

    answer = stranger.post("/reset", data={"password": OTHER_PASSWORD})
    assert (answer.status_code, answer.location) == (303, "/login")
    assert "Your new password is set" in stranger.get("/login").text
    assert not is_signed_in(stranger)
    assert not is_signed_in(elsewhere)
    assert stranger.post("/login", data={"email": "alice@example.com", "password": PASSWORD}).status_code == 422
    assert is_signed_in(sign_in(app, "alice", OTHER_PASSWORD))
    assert "was changed" in post.one_to("alice@example.com")["Subject"]
    with database.reading() as session:
        event = session.query(Event).filter_by(tag="user.password_changed").one()
        assert event.data["sessions_ended"] == 1


def test_an_address_without_account_gets_a_mail_that_says_so(stranger: FlaskClient, post: Post) -> None:
    ask(stranger, "nobody@example.com")
    message = post.one_to("nobody@example.com")
    assert "No account" in message["Subject"]
    assert links_in(message) == ["/signup"]


def test_an_account_without_password_gets_its_first_one(app: Flask, stranger: FlaskClient, post: Post) -> None:
    ask(stranger, "bob@example.com")
    stranger.get(post.link("bob@example.com"))
    assert stranger.post("/reset", data={"password": PASSWORD}).location == "/login"
    assert is_signed_in(sign_in(app, "bob"))


def test_following_the_link_changes_nothing(app: Flask, stranger: FlaskClient, post: Post) -> None:
    alice = sign_in(app, "alice")
    ask(stranger)
    link = post.link("alice@example.com")
    for _ in range(3):
        assert browser(app).get(link, follow_redirects=True).status_code == 200
    assert is_signed_in(alice)
    stranger.get(link)
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 303


def test_a_link_works_once_and_takes_the_others_with_it(app: Flask, stranger: FlaskClient, post: Post) -> None:
    ask(stranger)
    ask(stranger)
    first, second = (links_in(message)[0] for message in post.deliver())
    stranger.get(second)
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 303
    for link in (first, second):
        assert browser(app).get(link, follow_redirects=True).status_code == 410
        other = browser(app)
        other.get(link)
        assert other.post("/reset", data={"password": PASSWORD}).status_code == 410


def test_changing_the_password_makes_mailed_links_useless(app: Flask, stranger: FlaskClient, post: Post) -> None:
    alice = sign_in(app, "alice")
    ask(stranger)
    link = post.link("alice@example.com")
    data = {"password-present": PASSWORD, "password-password": OTHER_PASSWORD}
    assert alice.post("/account/password", data=data).status_code == 303
    assert stranger.get(link, follow_redirects=True).status_code == 410


def test_the_link_is_good_for_an_hour(stranger: FlaskClient, post: Post, database: Database) -> None:
    ask(stranger)
    stranger.get(post.link("alice@example.com"))
    with database.transaction() as session:
        row = session.query(OneTimeToken).one()
        assert timedelta(minutes=59) < row.expires_at - utcnow() <= timedelta(minutes=60)
        row.expires_at = utcnow()
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 410


def test_a_disabled_account_gets_no_new_password(
    stranger: FlaskClient, post: Post, database: Database, cast: Cast
) -> None:
    ask(stranger)
    stranger.get(post.link("alice@example.com"))
    with database.transaction() as session:
        session.get_one(User, cast.people["alice"]).disabled_at = utcnow()
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 410
    ask(stranger)
    assert links_in(post.one_to("alice@example.com")) == []


def test_a_refused_password_leaves_the_link_as_it_was(stranger: FlaskClient, post: Post) -> None:
    ask(stranger)
    stranger.get(post.link("alice@example.com"))
    answer = stranger.post("/reset", data={"password": "alice alice alice"})
    assert answer.status_code == 422
    assert "easy to guess" in answer.text
    assert stranger.post("/reset", data={"password": OTHER_PASSWORD}).status_code == 303


def test_links_are_built_from_base_url_not_from_the_host_of_the_request(stranger: FlaskClient, post: Post) -> None:
    answer = stranger.post("/forgot", data={"email": "alice@example.com"}, base_url="http://evil.example")
    assert answer.status_code == 400
    assert post.deliver() == []
    forwarded = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    stranger.post("/forgot", data={"email": "alice@example.com"}, headers=forwarded)
    # `links_in` checks the host of every link.
    assert post.link("alice@example.com").startswith("/reset/")


def test_a_link_that_waited_too_long_in_the_browser_is_forgotten(
    stranger: FlaskClient, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(stranger)
    stranger.get(post.link("alice@example.com"))
    assert stranger.get("/reset").status_code == 200
    with stranger.session_transaction() as carried:
        token, since = carried["pending"]["reset"]
        carried["pending"] = {"reset": [token, since - 3600]}
    assert stranger.get("/reset").status_code == 410


def test_signing_in_clears_what_the_browser_carried(app: Flask, stranger: FlaskClient, post: Post) -> None:
    ask(stranger)
    stranger.get(post.link("alice@example.com"))
    stranger.post("/login", data={"email": "alice@example.com", "password": PASSWORD})
    assert stranger.get("/reset").status_code == 410
