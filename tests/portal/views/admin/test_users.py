"""What operators do with accounts: finding, disabling, signing out, making operators, of whom one always stays."""

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
from tests.support.cast import Cast, SignedIn

ROUNDS = 10


@pytest.fixture
def root(signed_in: SignedIn) -> FlaskClient:
    """The operator's browser."""
    return signed_in("root")


def act(client: FlaskClient, cast: Cast, person: str, what: str) -> int:
    """Press a button on somebody's page; gives the status."""
    return client.post(f"/admin/users/{cast.people[person]}/{what}").status_code


def operators(database: Database) -> set[str]:
    """Names of those who could run the platform now."""
    with database.reading() as session:
        found = session.query(User).filter(User.is_platform_admin, User.disabled_at.is_(None))
        return {user.name.lower() for user in found}


def tags(database: Database, person_id: str) -> list[str]:
    """What the log says was done to somebody, in order."""
    with database.reading() as session:
        events = session.query(Event).order_by(Event.id)
        return [event.tag for event in events if event.data.get("user_id") == person_id]


def test_people_are_found_by_name_and_address(root: FlaskClient, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).disabled_at = utcnow()
    assert "5 people" in root.get("/admin/users").text
    assert "1 person" in root.get("/admin/users?q=CAROL").text
    assert "carol@example.com" in root.get("/admin/users?q=carol@ex").text
    assert "Nobody fits" in root.get("/admin/users?q=%25").text
    only = root.get("/admin/users?show=operators").text
    assert "root@example.com" in only
    assert "bob@example.com" not in only
    assert "bob@example.com" in root.get("/admin/users?show=disabled").text
    assert "5 people" in root.get("/admin/users?show=nonsense&page=-3").text
    fragment = root.get("/admin/users?part=users&q=bob", headers={"HX-Request": "true"}).text
    assert fragment.lstrip().startswith('<div id="users"')


def test_a_person_s_page_tells_where_they_belong_and_what_they_did(
    root: FlaskClient, signed_in: SignedIn, cast: Cast
) -> None:
    signed_in("carol").post("/o/acme/team/nothing/role", data={"role": "admin", "version": 1})
    signed_in("mallory").get("/o/acme/team")
    carol = root.get(f"/admin/users/{cast.people['carol']}").text
    assert "Acme" in carol
    assert "from 127.0.0.1" in carol
    assert "Mallory tried to look at this organization" in root.get(f"/admin/users/{cast.people['mallory']}").text


def test_disabling_ends_every_session_at_once_and_keeps_out(
    app: Flask, root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    password = "a long and boring password"
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).password_hash = hash_password(password)
    phone, laptop = signed_in("bob"), signed_in("bob")
    assert phone.get("/o/acme/").status_code == 200

    assert act(root, cast, "bob", "disable") == 303

    for browser in (phone, laptop):
        assert browser.get("/o/acme/").location.startswith("/login")
        poll = browser.get("/o/acme/?part=bots&version=x", headers={"HX-Request": "true"})
        assert (poll.status_code, poll.headers["HX-Redirect"][:6]) == (401, "/login")
    form = {"email": "bob@example.com", "password": password}
    assert phone.post("/login", data=form).status_code == 422
    with database.reading() as session:
        rows = session.query(UserSession).filter_by(user_id=cast.people["bob"])
        assert all(row.revoked_at for row in rows)

    assert act(root, cast, "bob", "enable") == 303
    assert phone.get("/o/acme/").location.startswith("/login"), "enabling brings no old session back"
    assert phone.post("/login", data=form).status_code == 303
    assert tags(database, cast.people["bob"])[:3] == ["user.disabled", "user.sign_in_failed", "user.enabled"]


def test_signing_somebody_out_everywhere_leaves_the_account_as_it_is(
    root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    phone, laptop = signed_in("bob"), signed_in("bob")
    page = root.post(f"/admin/users/{cast.people['bob']}/end-sessions", follow_redirects=True).text
    assert "Signed out of 2 browsers" in page
    assert "Sign out everywhere" not in page
    assert {browser.get("/o/acme/").status_code for browser in (phone, laptop)} == {303}
    assert signed_in("bob").get("/o/acme/").status_code == 200
    assert tags(database, cast.people["bob"])[0] == "session.ended"


def test_an_operator_is_made_and_unmade_and_signs_in_anew(
    root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    carol = signed_in("carol")
    assert act(root, cast, "carol", "operator/grant") == 303
    assert carol.get("/admin/").location.startswith("/login"), "the id of before must not gain rights"
    carol = signed_in("carol")
    assert carol.get("/admin/").status_code == 200

    assert act(root, cast, "carol", "operator/revoke") == 303
    assert carol.get("/admin/").location.startswith("/login")
    assert signed_in("carol").get("/admin/").status_code == 403
    done = [tag for tag in tags(database, cast.people["carol"]) if tag.startswith("user.")]
    assert done == ["user.operator_granted", "user.operator_revoked"]


@pytest.mark.parametrize("what", ["disable", "operator/revoke"])
def test_the_last_operator_stays(root: FlaskClient, database: Database, cast: Cast, what: str) -> None:
    answer = root.post(f"/admin/users/{cast.people['root']}/{what}")
    assert answer.status_code == 409
    assert "last operator" in answer.text
    assert operators(database) == {"root"}
    assert root.get("/admin/").status_code == 200


def test_a_disabled_operator_is_none_to_rely_on(root: FlaskClient, database: Database, cast: Cast) -> None:
    act(root, cast, "carol", "operator/grant")
    act(root, cast, "carol", "disable")
    assert act(root, cast, "root", "operator/revoke") == 409
    assert act(root, cast, "carol", "operator/grant") == 409
    assert operators(database) == {"root"}


@pytest.mark.parametrize(
    "deeds",
    [("operator/revoke", "operator/revoke"), ("disable", "disable"), ("disable", "operator/revoke")],
)
def test_of_two_operators_who_remove_each_other_at_once_one_stays(
    app: Flask, signed_in: SignedIn, database: Database, cast: Cast, deeds: tuple[str, str]
) -> None:
    for _ in range(ROUNDS):
        with database.transaction() as session:
            for name in ("carol", "root"):
                user = session.get_one(User, cast.people[name])
                user.is_platform_admin, user.disabled_at = True, None
        clients = {name: signed_in(name) for name in ("carol", "root")}
        start = Barrier(2)

        def remove(actor: str, target: str, what: str) -> int:
            start.wait()  # noqa: B023 - run to its end within the round
            return act(clients[actor], cast, target, what)  # noqa: B023

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(remove, "carol", "root", deeds[0])
            second = pool.submit(remove, "root", "carol", deeds[1])
            statuses = [first.result(), second.result()]
        # The second one is refused, or was signed out before its request began.
        assert len(operators(database)) == 1, statuses
    with app.app_context():
        db.engine.dispose()


def test_a_deleted_account_is_left_alone(root: FlaskClient, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        gone = session.get_one(User, cast.people["mallory"])
        gone.name, gone.email, gone.deleted_at, gone.disabled_at = "deleted user", "", utcnow(), utcnow()
    assert act(root, cast, "mallory", "enable") == 409
    assert act(root, cast, "mallory", "operator/grant") == 409
    page = root.get(f"/admin/users/{cast.people['mallory']}").text
    assert not re.search(r"<form[^>]*admin/users", page)
    assert "4 people" in root.get("/admin/users").text


def test_an_org_s_updates_are_decided_in_its_place(
    root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    here = f"/admin/orgs/{cast.org_id}"
    form = {"mode": "auto", "hour": "4", "version": "0"}
    assert root.post(f"{here}/override", data=form).status_code == 303
    assert "automatic at 04:00 UTC" in root.get("/admin/orgs").text
    assert root.post(f"{here}/override", data=form | {"hour": "5"}).status_code == 409, "seen before the change"

    alice = signed_in("alice")
    page = alice.get("/o/acme/settings").text
    assert "Managed by your provider" in page
    chosen = {"mode": "manual", "hour": "3", "version": "1"}
    assert alice.post("/o/acme/settings/updates", data=chosen).status_code == 403

    assert root.post(f"{here}/lift", data={"version": "1"}).status_code == 303
    assert "Managed by your provider" not in alice.get("/o/acme/settings").text
    log = alice.get("/o/acme/audit?about=config").text
    assert "Update preferences were changed" in log
    assert "your provider" in log
    assert "Root" not in log


@pytest.mark.parametrize("form", [{}, {"mode": "sometimes", "hour": "4"}, {"mode": "auto", "hour": "24"}])
def test_preferences_that_make_no_sense_change_nothing(
    root: FlaskClient, database: Database, cast: Cast, form: dict[str, str]
) -> None:
    answer = root.post(f"/admin/orgs/{cast.org_id}/override", data={"version": "0", **form})
    assert answer.status_code == 422
    with database.reading() as session:
        assert session.query(Event).count() == 0


def test_orgs_are_found_by_name_owner_and_state(root: FlaskClient, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        session.add(Org(slug="gone", name="Gone Inc", owner_id=cast.people["bob"], state="deleted"))
        session.add(Org(slug="going", name="Going Inc", owner_id=cast.people["bob"], state="deleting"))
    everything = root.get("/admin/orgs").text
    assert "2 organizations" in everything
    assert "Gone Inc" not in everything
    assert "1 organization<" in root.get("/admin/orgs?q=ALICE").text
    assert "Going Inc" in root.get("/admin/orgs?state=deleting").text
    assert "Gone Inc" in root.get("/admin/orgs?state=deleted").text
    assert "2 organizations" in root.get("/admin/orgs?state=nonsense").text
