"""Name, address and password of one's own account."""

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, MemberSync, OneTimeToken, User
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, browser, give_password, is_signed_in, sign_in
from tests.support.cast import Cast
from tests.support.outbox import Post, links_in
from tests.support.scene import Scene

ADDRESS = {"address-email": "bobby@example.com", "address-present": PASSWORD}


@pytest.fixture(autouse=True)
def _passwords(database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice", "bob", "carol")


@pytest.fixture
def bob(app: Flask) -> FlaskClient:
    """Bob's browser."""
    return sign_in(app, "bob")


def user(database: Database, cast: Cast, name: str = "bob") -> User:
    """Somebody's row as it is now."""
    with database.reading() as session:
        return session.get_one(User, cast.people[name])


def test_the_name_is_changed(bob: FlaskClient, database: Database, cast: Cast) -> None:
    answer = bob.post("/account/name", data={"name-name": "  Bobby Tables "})
    assert (answer.status_code, answer.location) == (303, "/account")
    assert user(database, cast).name == "Bobby Tables"
    assert "Your name is changed" in bob.get("/account").text
    with database.reading() as session:
        event = session.query(Event).filter_by(tag="user.renamed").one()
        assert (event.data["old"], event.data["new"]) == ("Bob", "Bobby Tables")


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "two\nlines", "turn\N{RIGHT-TO-LEFT OVERRIDE}around"])
def test_what_is_no_name_is_refused(bob: FlaskClient, database: Database, cast: Cast, name: str) -> None:
    answer = bob.post("/account/name", data={"name-name": name})
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    assert user(database, cast).name == "Bob"


def test_bots_are_to_know_a_new_name_and_address(
    bob: FlaskClient, post: Post, database: Database, cast: Cast, scene: Scene
) -> None:
    def wishes() -> dict[str, tuple[int, str]]:
        with database.reading() as session:
            rows = session.query(MemberSync).filter_by(user_id=cast.people["bob"])
            return {row.bot_id: (row.desired_version, row.desired_role) for row in rows}

    bob.post("/account/name", data={"name-name": "Bobby"})
    assert wishes() == dict.fromkeys(scene.bots, (1, "member"))
    bob.post("/account/name", data={"name-name": "Bobby"})
    assert wishes() == dict.fromkeys(scene.bots, (1, "member"))
    bob.post("/account/address", data=ADDRESS)
    bob.get(post.link("bobby@example.com"))
    bob.post("/account/email")
    assert wishes() == dict.fromkeys(scene.bots, (2, "member"))


def test_the_address_changes_once_the_link_in_the_new_mailbox_is_followed(
    app: Flask, bob: FlaskClient, post: Post, database: Database, cast: Cast
) -> None:
    assert bob.post("/account/address", data=ADDRESS).status_code == 303
    link = post.link("bobby@example.com")
    assert user(database, cast).email == "bob@example.com"

    assert bob.get(link).location == "/account/email"
    page = bob.get("/account/email").text
    assert "bobby@example.com" in page
    assert user(database, cast).email == "bob@example.com"

    before = bob.get_cookie("flotilla-session")
    assert bob.post("/account/email").location == "/account"
    after = bob.get_cookie("flotilla-session")
    assert before is not None
    assert after is not None
    assert before.value != after.value
    assert is_signed_in(bob)
    assert user(database, cast).email_normalized == "bobby@example.com"
    assert "was changed" in post.one_to("bob@example.com")["Subject"]
    assert browser(app).post("/login", data={"email": "bob@example.com", "password": PASSWORD}).status_code == 422
    assert browser(app).post("/login", data={"email": "bobby@example.com", "password": PASSWORD}).status_code == 303
    assert bob.post("/account/email").status_code == 404


def test_changing_the_address_needs_the_password(bob: FlaskClient, post: Post) -> None:
    for wrong in ("", OTHER_PASSWORD):
        answer = bob.post("/account/address", data={**ADDRESS, "address-present": wrong})
        assert answer.status_code == 422
    assert "This is not your password" in answer.text
    assert post.deliver() == []


def test_the_link_for_a_new_address_works_for_its_owner_only(
    app: Flask, bob: FlaskClient, post: Post, database: Database, cast: Cast
) -> None:
    bob.post("/account/address", data=ADDRESS)
    link = post.link("bobby@example.com")
    carol = sign_in(app, "carol")
    assert carol.get(link, follow_redirects=True).status_code == 410
    assert carol.post("/account/email").status_code == 404
    assert user(database, cast, "carol").email == "carol@example.com"
    bob.get(link)
    assert bob.post("/account/email").status_code == 303


def test_who_is_signed_out_signs_in_and_goes_on(app: Flask, bob: FlaskClient, post: Post) -> None:
    bob.post("/account/address", data=ADDRESS)
    link = post.link("bobby@example.com")
    fresh = browser(app)
    assert fresh.get(link).location == "/account/email"
    assert fresh.get("/account/email").location == "/login?next=/account/email"
    data = {"email": "bob@example.com", "password": PASSWORD, "next": "/account/email"}
    assert fresh.post("/login", data=data).location == "/account/email"
    assert "bobby@example.com" in fresh.get("/account/email").text
    assert fresh.post("/account/email").location == "/account"


def test_an_address_that_somebody_else_has_is_told_in_that_mailbox_only(
    bob: FlaskClient, post: Post, database: Database, cast: Cast
) -> None:
    taken = bob.post("/account/address", data={**ADDRESS, "address-email": "carol@example.com"})
    free = bob.post("/account/address", data=ADDRESS)
    assert (taken.status_code, taken.location) == (free.status_code, free.location)
    (message,) = (message for message in post.deliver() if message["X-Recipients"] == "carol@example.com")
    bob.get(links_in(message)[0])
    answer = bob.post("/account/email")
    assert answer.status_code == 409
    assert "Another account" in answer.text
    assert user(database, cast).email == "bob@example.com"
    with database.reading() as session:
        used = session.scalar(sa.select(sa.func.count()).where(OneTimeToken.used_at.is_not(None)))
    assert used == 0


def test_the_address_one_has_is_no_new_one(bob: FlaskClient) -> None:
    answer = bob.post("/account/address", data={**ADDRESS, "address-email": "bob@example.com"})
    assert answer.status_code == 422
    assert "your address already" in answer.text


def test_a_new_password_signs_the_other_browsers_out(app: Flask, bob: FlaskClient, post: Post) -> None:
    other, carol = sign_in(app, "bob"), sign_in(app, "carol")
    before = bob.get_cookie("flotilla-session")
    data = {"password-present": PASSWORD, "password-password": OTHER_PASSWORD}
    assert bob.post("/account/password", data=data).location == "/account"
    assert is_signed_in(bob)
    assert is_signed_in(carol)
    assert not is_signed_in(other)
    # Whoever had this browser's cookie is signed out too.
    thief = browser(app)
    assert before is not None
    thief.set_cookie("flotilla-session", before.value)
    assert not is_signed_in(thief)
    assert "was changed" in post.one_to("bob@example.com")["Subject"]
    sign_in(app, "bob", OTHER_PASSWORD)


@pytest.mark.parametrize(
    ("present", "new", "complaint"),
    [
        (OTHER_PASSWORD, OTHER_PASSWORD, "This is not your password"),
        ("", OTHER_PASSWORD, "Enter your password"),
        (PASSWORD, "short", "15 characters or more"),
        (PASSWORD, "bob bob bob bob bob", "easy to guess"),
    ],
)
def test_a_refused_password_changes_nothing(
    app: Flask, bob: FlaskClient, present: str, new: str, complaint: str
) -> None:
    answer = bob.post("/account/password", data={"password-present": present, "password-password": new})
    assert answer.status_code == 422
    assert complaint in answer.text
    sign_in(app, "bob", PASSWORD)
