"""Tests of the account page: name, email and password."""

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, MemberSync, OneTimeToken, User
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, give_password, is_signed_in, new_client, sign_in
from tests.support.cast import Cast
from tests.support.outbox import MailDelivery, links_in
from tests.support.scene import Scene

pytestmark = pytest.mark.requests

ADDRESS = {"address-email": "bobby@example.com", "address-current_password": PASSWORD}


@pytest.fixture(autouse=True)
def _set_passwords(database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice", "bob", "carol")


@pytest.fixture
def bob(app: Flask) -> FlaskClient:
    """Return a browser in which Bob is signed in."""
    return sign_in(app, "bob")


def load_user(database: Database, cast: Cast, name: str = "bob") -> User:
    """Return the current row of a person of the cast."""
    with database.reading() as session:
        return session.get_one(User, cast.people[name])


@pytest.mark.every_database
def test_name_is_changed(bob: FlaskClient, database: Database, cast: Cast) -> None:
    answer = bob.post("/account/name", data={"name-name": "  Bobby Tables "})
    assert (answer.status_code, answer.location) == (303, "/account")
    assert load_user(database, cast).name == "Bobby Tables"
    assert "Name changed" in bob.get("/account").text
    with database.reading() as session:
        event = session.query(Event).filter_by(tag="user.renamed").one()
        assert (event.facts["old"], event.facts["new"]) == ("Bob", "Bobby Tables")


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "two\nlines", "turn\N{RIGHT-TO-LEFT OVERRIDE}around"])
def test_invalid_name_is_refused(bob: FlaskClient, database: Database, cast: Cast, name: str) -> None:
    answer = bob.post("/account/name", data={"name-name": name})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    assert load_user(database, cast).name == "Bob"


@pytest.mark.every_database
def test_new_name_and_email_are_synced_to_bots(
    bob: FlaskClient, mailer: MailDelivery, database: Database, cast: Cast, scene: Scene
) -> None:
    def desired_syncs() -> dict[str, tuple[int, str]]:
        with database.reading() as session:
            rows = session.query(MemberSync).filter_by(user_id=cast.people["bob"])
            return {row.bot_id: (row.desired_version, row.desired_role) for row in rows}

    bob.post("/account/name", data={"name-name": "Bobby"})
    assert desired_syncs() == dict.fromkeys(scene.bots, (1, "member"))
    bob.post("/account/name", data={"name-name": "Bobby"})
    assert desired_syncs() == dict.fromkeys(scene.bots, (1, "member"))
    bob.post("/account/address", data=ADDRESS)
    bob.get(mailer.deliver_link_to("bobby@example.com"))
    bob.post("/account/email")
    assert desired_syncs() == dict.fromkeys(scene.bots, (2, "member"))


@pytest.mark.every_database
def test_email_changes_after_the_link_to_the_new_email_is_confirmed(
    app: Flask, bob: FlaskClient, mailer: MailDelivery, database: Database, cast: Cast
) -> None:
    assert bob.post("/account/address", data=ADDRESS).status_code == 303
    link = mailer.deliver_link_to("bobby@example.com")
    assert load_user(database, cast).email == "bob@example.com"

    assert bob.get(link).location == "/account/email"
    page = bob.get("/account/email").text
    assert "bobby@example.com" in page
    assert load_user(database, cast).email == "bob@example.com"

    before = bob.get_cookie("flotilla-session")
    assert bob.post("/account/email").location == "/account"
    after = bob.get_cookie("flotilla-session")
    assert before is not None
    assert after is not None
    assert before.value != after.value
    assert is_signed_in(bob)
    assert load_user(database, cast).email_normalized == "bobby@example.com"
    assert "was changed" in mailer.deliver_one_to("bob@example.com")["Subject"]
    assert new_client(app).post("/login", data={"email": "bob@example.com", "password": PASSWORD}).status_code == 422
    assert (
        new_client(app).post("/login", data={"email": "bobby@example.com", "password": PASSWORD}).status_code == 303
    )
    assert bob.post("/account/email").status_code == 404


def test_email_change_requires_the_password(bob: FlaskClient, mailer: MailDelivery) -> None:
    for wrong in ("", OTHER_PASSWORD):
        answer = bob.post("/account/address", data={**ADDRESS, "address-current_password": wrong})
        assert answer.status_code == 422
    assert "Wrong password" in answer.text
    assert mailer.deliver() == []


def test_email_change_link_works_only_for_the_user_who_requested_it(
    app: Flask, bob: FlaskClient, mailer: MailDelivery, database: Database, cast: Cast
) -> None:
    bob.post("/account/address", data=ADDRESS)
    link = mailer.deliver_link_to("bobby@example.com")
    carol = sign_in(app, "carol")
    assert carol.get(link, follow_redirects=True).status_code == 410
    assert carol.post("/account/email").status_code == 404
    assert load_user(database, cast, "carol").email == "carol@example.com"
    bob.get(link)
    assert bob.post("/account/email").status_code == 303


def test_signed_out_user_signs_in_and_confirms_the_email_change(
    app: Flask, bob: FlaskClient, mailer: MailDelivery
) -> None:
    bob.post("/account/address", data=ADDRESS)
    link = mailer.deliver_link_to("bobby@example.com")
    fresh = new_client(app)
    assert fresh.get(link).location == "/account/email"
    assert fresh.get("/account/email").location == "/login?next=/account/email"
    data = {"email": "bob@example.com", "password": PASSWORD, "next": "/account/email"}
    assert fresh.post("/login", data=data).location == "/account/email"
    assert "bobby@example.com" in fresh.get("/account/email").text
    assert fresh.post("/account/email").location == "/account"


@pytest.mark.every_database
def test_email_of_another_account_is_refused_only_at_confirmation(
    bob: FlaskClient, mailer: MailDelivery, database: Database, cast: Cast
) -> None:
    taken = bob.post("/account/address", data={**ADDRESS, "address-email": "carol@example.com"})
    free = bob.post("/account/address", data=ADDRESS)
    assert (taken.status_code, taken.location) == (free.status_code, free.location)
    (message,) = (message for message in mailer.deliver() if message["X-Recipients"] == "carol@example.com")
    bob.get(links_in(message)[0])
    answer = bob.post("/account/email")
    assert answer.status_code == 409
    assert "Another account" in answer.text
    assert load_user(database, cast).email == "bob@example.com"
    with database.reading() as session:
        used = session.scalar(sa.select(sa.func.count()).where(OneTimeToken.used_at.is_not(None)))
    assert used == 0


def test_changing_to_the_current_email_is_refused(bob: FlaskClient) -> None:
    answer = bob.post("/account/address", data={**ADDRESS, "address-email": "bob@example.com"})
    assert answer.status_code == 422
    assert "already your email" in answer.text


@pytest.mark.every_database
def test_password_change_ends_other_sessions_and_rotates_the_current_one(
    app: Flask, bob: FlaskClient, mailer: MailDelivery
) -> None:
    other, carol = sign_in(app, "bob"), sign_in(app, "carol")
    before = bob.get_cookie("flotilla-session")
    data = {"password-current_password": PASSWORD, "password-password": OTHER_PASSWORD}
    assert bob.post("/account/password", data=data).location == "/account"
    assert is_signed_in(bob)
    assert is_signed_in(carol)
    assert not is_signed_in(other)
    # The old token of this browser is invalid too.
    thief = new_client(app)
    assert before is not None
    thief.set_cookie("flotilla-session", before.value)
    assert not is_signed_in(thief)
    assert "was changed" in mailer.deliver_one_to("bob@example.com")["Subject"]
    sign_in(app, "bob", OTHER_PASSWORD)


@pytest.mark.parametrize(
    ("current", "new", "complaint"),
    [
        (OTHER_PASSWORD, OTHER_PASSWORD, "Wrong password"),
        ("", OTHER_PASSWORD, "Enter your password"),
        (PASSWORD, "short", "15 characters or more"),
        (PASSWORD, "bob bob bob bob bob", "easy to guess"),
    ],
)
def test_refused_password_change_keeps_the_password(
    app: Flask, bob: FlaskClient, current: str, new: str, complaint: str
) -> None:
    answer = bob.post("/account/password", data={"password-current_password": current, "password-password": new})
    assert answer.status_code == 422
    assert complaint in answer.text
    sign_in(app, "bob", PASSWORD)
