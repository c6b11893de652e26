"""Tests of the operators' pages of users and organizations, and of the rule that one operator always remains."""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, Org, User, UserSession, utcnow
from portal.password_hashing import hash_password
from portal.web.extensions import db
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, give_password
from tests.support.cast import Cast, SignedIn

ROUNDS = 10


@pytest.fixture
def root(signed_in: SignedIn, database: Database, cast: Cast) -> FlaskClient:
    """Return a browser in which the operator, who has a password, is signed in."""
    give_password(database, cast, "root")
    return signed_in("root")


def post_action(client: FlaskClient, cast: Cast, user: str, action: str) -> int:
    """Send an action from the page of a user and return the status."""
    return client.post(f"/admin/users/{cast.people[user]}/{action}", data={"current_password": PASSWORD}).status_code


def list_operators(database: Database) -> set[str]:
    """Return the names of the operators whose accounts are enabled."""
    with database.reading() as session:
        found = session.query(User).filter(User.is_platform_admin, User.disabled_at.is_(None))
        return {user.name.lower() for user in found}


def list_tags(database: Database, user_id: str) -> list[str]:
    """Return the tags of the events about a user, in order."""
    with database.reading() as session:
        events = session.query(Event).order_by(Event.id)
        return [event.tag for event in events if event.data.get("user_id") == user_id]


def test_users_are_found_by_name_and_email(root: FlaskClient, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).disabled_at = utcnow()
    assert "5 users" in root.get("/admin/users").text
    assert "1 user<" in root.get("/admin/users?q=CAROL").text
    assert "carol@example.com" in root.get("/admin/users?q=carol@ex").text
    assert "No matching users" in root.get("/admin/users?q=%25").text
    operators = root.get("/admin/users?show=operators").text
    assert "root@example.com" in operators
    assert "bob@example.com" not in operators
    assert "bob@example.com" in root.get("/admin/users?show=disabled").text
    assert "5 users" in root.get("/admin/users?show=nonsense&page=-3").text
    fragment = root.get("/admin/users?part=users&q=bob", headers={"HX-Request": "true"}).text
    assert fragment.lstrip().startswith('<div id="users"')


def test_page_of_a_user_shows_organizations_sessions_and_events(
    root: FlaskClient, signed_in: SignedIn, cast: Cast
) -> None:
    signed_in("carol").post("/o/acme/team/nothing/role", data={"role": "admin", "version": 1})
    signed_in("mallory").get("/o/acme/team")
    carol = root.get(f"/admin/users/{cast.people['carol']}").text
    assert "Acme" in carol
    assert "from 127.0.0.1" in carol
    assert "Refused: Mallory tried to" in root.get(f"/admin/users/{cast.people['mallory']}").text


def test_disabled_user_loses_all_sessions_and_cannot_sign_in(
    app: Flask, root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    password = "a long and boring password"
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).password_hash = hash_password(password)
    phone, laptop = signed_in("bob"), signed_in("bob")
    assert phone.get("/o/acme/").status_code == 200

    assert post_action(root, cast, "bob", "disable") == 303

    for browser in (phone, laptop):
        assert browser.get("/o/acme/").location.startswith("/login")
        poll = browser.get("/o/acme/?part=bots&version=x", headers={"HX-Request": "true"})
        assert (poll.status_code, poll.headers["HX-Redirect"][:6]) == (401, "/login")
    form = {"email": "bob@example.com", "password": password}
    assert phone.post("/login", data=form).status_code == 422
    with database.reading() as session:
        rows = session.query(UserSession).filter_by(user_id=cast.people["bob"])
        assert all(row.revoked_at for row in rows)

    assert post_action(root, cast, "bob", "enable") == 303
    assert phone.get("/o/acme/").location.startswith("/login"), "enabling must not revive old sessions"
    assert phone.post("/login", data=form).status_code == 303
    assert list_tags(database, cast.people["bob"])[:3] == ["user.disabled", "user.sign_in_failed", "user.enabled"]


def test_signing_a_user_out_everywhere_keeps_the_account_enabled(
    root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    phone, laptop = signed_in("bob"), signed_in("bob")
    page = root.post(f"/admin/users/{cast.people['bob']}/end-sessions", follow_redirects=True).text
    assert "Signed out of 2 browsers" in page
    assert "Sign out everywhere" not in page
    assert {browser.get("/o/acme/").status_code for browser in (phone, laptop)} == {303}
    assert signed_in("bob").get("/o/acme/").status_code == 200
    assert list_tags(database, cast.people["bob"])[0] == "session.ended"


def test_new_and_former_operators_must_sign_in_again(
    root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    carol = signed_in("carol")
    assert post_action(root, cast, "carol", "operator/grant") == 303
    assert carol.get("/admin/").location.startswith("/login"), "an old session must not gain rights"
    carol = signed_in("carol")
    assert carol.get("/admin/").status_code == 200

    assert post_action(root, cast, "carol", "operator/revoke") == 303
    assert carol.get("/admin/").location.startswith("/login")
    assert signed_in("carol").get("/admin/").status_code == 403
    user_tags = [tag for tag in list_tags(database, cast.people["carol"]) if tag.startswith("user.")]
    assert user_tags == ["user.operator_granted", "user.operator_revoked"]


@pytest.mark.parametrize(("password", "error"), [("", "Enter your password"), (OTHER_PASSWORD, "Wrong password")])
def test_making_an_operator_requires_the_own_password(
    root: FlaskClient, database: Database, cast: Cast, password: str, error: str
) -> None:
    answer = root.post(f"/admin/users/{cast.people['carol']}/operator/grant", data={"current_password": password})
    assert answer.status_code == 422
    assert error in answer.text
    assert list_operators(database) == {"root"}


@pytest.mark.parametrize("action", ["disable", "operator/revoke"])
def test_last_operator_cannot_be_removed(root: FlaskClient, database: Database, cast: Cast, action: str) -> None:
    answer = root.post(f"/admin/users/{cast.people['root']}/{action}")
    assert answer.status_code == 409
    assert "last operator" in answer.text
    assert list_operators(database) == {"root"}
    assert root.get("/admin/").status_code == 200


def test_disabled_operator_does_not_count_as_an_operator(root: FlaskClient, database: Database, cast: Cast) -> None:
    post_action(root, cast, "carol", "operator/grant")
    post_action(root, cast, "carol", "disable")
    assert post_action(root, cast, "root", "operator/revoke") == 409
    assert post_action(root, cast, "carol", "operator/grant") == 409
    assert list_operators(database) == {"root"}


@pytest.mark.parametrize(
    "actions",
    [("operator/revoke", "operator/revoke"), ("disable", "disable"), ("disable", "operator/revoke")],
)
def test_one_operator_remains_when_two_remove_each_other_concurrently(
    app: Flask, signed_in: SignedIn, database: Database, cast: Cast, actions: tuple[str, str]
) -> None:
    for _ in range(ROUNDS):
        with database.transaction() as session:
            for name in ("carol", "root"):
                user = session.get_one(User, cast.people[name])
                user.is_platform_admin, user.disabled_at = True, None
        clients = {name: signed_in(name) for name in ("carol", "root")}
        start = Barrier(2)

        def remove(actor: str, target: str, action: str) -> int:
            start.wait()  # noqa: B023 - the call ends within this iteration
            return post_action(clients[actor], cast, target, action)  # noqa: B023

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(remove, "carol", "root", actions[0])
            second = pool.submit(remove, "root", "carol", actions[1])
            statuses = [first.result(), second.result()]
        # The second request is rejected, or its user was signed out before the request started.
        assert len(list_operators(database)) == 1, statuses
    with app.app_context():
        db.engine.dispose()


def test_deleted_account_cannot_be_changed(root: FlaskClient, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        deleted = session.get_one(User, cast.people["mallory"])
        deleted.name, deleted.email, deleted.deleted_at, deleted.disabled_at = "deleted user", "", utcnow(), utcnow()
    assert post_action(root, cast, "mallory", "enable") == 409
    assert post_action(root, cast, "mallory", "operator/grant") == 409
    page = root.get(f"/admin/users/{cast.people['mallory']}").text
    assert not re.search(r"<form[^>]*admin/users", page)
    assert "4 users" in root.get("/admin/users").text


def test_operator_manages_the_updates_of_an_organization(
    root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    url = f"/admin/orgs/{cast.org_id}"
    form = {"mode": "auto", "hour": "4", "version": "0"}
    assert root.post(f"{url}/override", data=form).status_code == 303
    assert "automatic at 04:00 UTC" in root.get("/admin/orgs").text
    assert root.post(f"{url}/override", data=form | {"hour": "5"}).status_code == 409, (
        "the form is older than the change"
    )

    alice = signed_in("alice")
    page = alice.get("/o/acme/settings").text
    assert "Managed by your provider" in page
    chosen = {"mode": "manual", "hour": "3", "version": "1"}
    assert alice.post("/o/acme/settings/updates", data=chosen).status_code == 403

    assert root.post(f"{url}/lift", data={"version": "1"}).status_code == 303
    assert "Managed by your provider" not in alice.get("/o/acme/settings").text
    log = alice.get("/o/acme/audit?about=config").text
    assert "Update settings were changed" in log
    assert "your provider" in log
    assert "Root" not in log


@pytest.mark.parametrize("form", [{}, {"mode": "sometimes", "hour": "4"}, {"mode": "auto", "hour": "24"}])
def test_invalid_preferences_change_nothing(
    root: FlaskClient, database: Database, cast: Cast, form: dict[str, str]
) -> None:
    answer = root.post(f"/admin/orgs/{cast.org_id}/override", data={"version": "0", **form})
    assert answer.status_code == 422
    with database.reading() as session:
        assert session.query(Event).count() == 0


def test_organizations_are_found_by_name_owner_and_state(root: FlaskClient, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        session.add(Org(slug="gone", name="Gone Inc", owner_id=cast.people["bob"], state="deleted"))
        session.add(Org(slug="going", name="Going Inc", owner_id=cast.people["bob"], state="deleting"))
    visible = root.get("/admin/orgs").text
    assert "2 organizations" in visible
    assert "Gone Inc" not in visible
    assert "1 organization<" in root.get("/admin/orgs?q=ALICE").text
    assert "Going Inc" in root.get("/admin/orgs?state=deleting").text
    assert "Gone Inc" in root.get("/admin/orgs?state=deleted").text
    assert "2 organizations" in root.get("/admin/orgs?state=nonsense").text
