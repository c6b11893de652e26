"""Tests of the invite page: what it shows to whom, all ways to accept, and invites that are closed."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import (
    Event,
    Invite,
    InviteState,
    Membership,
    MembershipRole,
    MemberSync,
    Org,
    OrgState,
    SyncRole,
    User,
    UserSession,
    utcnow,
)
from portal.password_hashing import hash_password
from tests import factories
from tests.portal.views.inviting import NEW, PASSWORD, Inviting, follow, join, submit
from tests.support.cast import SignedIn
from tests.support.scene import Scene

pytestmark = pytest.mark.requests


@pytest.mark.every_database
def test_new_person_signs_up_on_the_invite_page_and_joins(
    inviting: Inviting, scene: Scene, database: Database
) -> None:
    link = inviting.invite(role="admin")
    nora = inviting.new_client()
    page = follow(nora, link)
    for fact in ("Acme", "Alice", "Admin", "n•••@example.com", "UTC"):
        assert fact in page.text
    token = link.rpartition("/")[2]
    assert token not in page.text

    joined = join(nora)
    assert (joined.status_code, joined.location) == (303, "/o/acme/")
    home = nora.get("/o/acme/")
    assert home.status_code == 200
    assert "Welcome to Acme, Nora." in home.text
    assert nora.get("/").location == "/o/acme/"
    assert inviting.role_of() == "admin"
    with database.reading() as session:
        nora_id = session.query(User).filter_by(email_normalized=NEW).one().id
        synced = session.query(MemberSync).filter_by(user_id=nora_id).all()
        assert len(synced) == len(scene.bots)
        assert {row.desired_role for row in synced} == {SyncRole.ADMIN}
        tags = {event.tag for event in session.query(Event).filter_by(actor_id=nora_id)}
        assert {"user.signed_up", "member.joined", "invite.accepted"} <= tags
    # The new password works.
    other_browser = inviting.new_client()
    assert other_browser.post("/login", data={"email": NEW, "password": PASSWORD}).location == "/"


def test_mail_scanner_that_follows_the_link_does_not_use_it_up(inviting: Inviting) -> None:
    link = inviting.invite()
    for _ in range(3):
        scanner = inviting.new_client()
        assert scanner.head(link).status_code == 303
        assert follow(scanner, link).status_code == 200
    assert inviting.latest_invite().state is InviteState.PENDING
    nora = inviting.new_client()
    follow(nora, link)
    assert join(nora).status_code == 303


def test_invites_work_while_public_signup_is_off(app: Flask, inviting: Inviting) -> None:
    app.extensions["settings"] = replace(app.extensions["settings"], public_signup=False)
    nora = inviting.new_client()
    follow(nora, inviting.invite())
    assert join(nora).status_code == 303


@pytest.mark.parametrize(
    ("name", "password"), [("", PASSWORD), ("Nora", ""), ("Nora", "short"), ("Nora", "new@example.com")]
)
def test_invalid_signup_form_leaves_the_invite_pending(inviting: Inviting, name: str, password: str) -> None:
    nora = inviting.new_client()
    follow(nora, inviting.invite())
    refused = join(nora, name, password)
    assert refused.status_code == 422
    assert 'aria-invalid="true"' in refused.text
    assert inviting.latest_invite().state is InviteState.PENDING
    assert join(nora).status_code == 303


def test_accepting_rotates_the_session_token(inviting: Inviting) -> None:
    nora = inviting.add_person("nora")
    before = nora.get_cookie("flotilla-session")
    assert before is not None
    page = follow(nora, inviting.invite())
    assert "Join Acme" in page.text
    accepted = submit(nora, "accept")
    assert (accepted.status_code, accepted.location) == (303, "/o/acme/")
    assert nora.get("/o/acme/").status_code == 200
    after = nora.get_cookie("flotilla-session")
    assert after is not None
    assert after.value != before.value
    thief = inviting.new_client()
    thief.set_cookie("flotilla-session", before.value)
    assert thief.get("/o/acme/").location.startswith("/login")


def test_invite_can_be_accepted_after_sign_in(inviting: Inviting, database: Database) -> None:
    inviting.add_person("nora")
    stored = hash_password(PASSWORD)
    with database.transaction() as session:
        session.get_one(User, inviting.cast.people["nora"]).password_hash = stored
    browser = inviting.new_client()
    page = follow(browser, inviting.invite())
    assert "You already have an account" in page.text
    assert 'href="/login?next=/invite"' in page.text
    assert 'name="password"' not in page.text
    signed_in = browser.post("/login", data={"email": NEW, "password": PASSWORD, "next": "/invite"})
    assert signed_in.location == "/invite"
    assert submit(browser, "accept").location == "/o/acme/"
    assert inviting.role_of() == "member"


def test_invited_email_matches_in_any_case(inviting: Inviting) -> None:
    nora = inviting.add_person("nora", "New@Example.com")
    follow(nora, inviting.invite("nEw@eXample.COM"))
    assert submit(nora, "accept").status_code == 303
    assert inviting.role_of() == "member"


@pytest.mark.every_database
def test_copied_link_requires_confirming_the_email_first(inviting: Inviting) -> None:
    inviting.invite()
    link = inviting.copy_link()
    browser = inviting.new_client()
    page = follow(browser, link)
    assert 'name="password"' not in page.text
    assert "n•••@example.com" in page.text
    assert NEW not in page.text
    forged = {
        "seen": f"{inviting.latest_invite().id}-{inviting.latest_invite().version}",
        "name": "Nora",
        "password": PASSWORD,
    }
    for action in ("join", "decline"):
        assert browser.post(f"/invite/{action}", data=forged).status_code == 409
    assert inviting.role_of() is None
    assert inviting.latest_invite().state is InviteState.PENDING

    sent = browser.post("/invite/proof")
    assert sent.location == "/invite/mailed"
    mailed = browser.get(sent.location).text
    assert "n•••@example.com" in mailed
    assert NEW not in mailed
    proof = inviting.mailer.deliver_link_to(NEW)
    follow(browser, proof)
    assert join(browser).status_code == 303
    assert inviting.role_of() == "member"


def test_copied_link_does_not_show_whether_an_account_exists(inviting: Inviting) -> None:
    pages = []
    inviting.add_person("known", "known@example.com")
    for address in ("known@example.com", "kempt@example.com"):
        inviting.invite(address)
        browser = inviting.new_client()
        page = follow(browser, inviting.copy_link())
        shown = re.sub(r"<dt>Expires.*?</dd>|value=\S+", "", page.text.partition("<main")[2], flags=re.DOTALL)
        pages.append((shown, browser.post("/invite/proof").location))
        inviting.mailer.deliver_one_to(address)
    assert pages[0] == pages[1]
    assert "k•••@example.com" in pages[0][0]


def test_copied_link_suffices_when_signed_in_with_the_invited_email(inviting: Inviting) -> None:
    inviting.invite()
    nora = inviting.add_person("nora")
    follow(nora, inviting.copy_link())
    assert submit(nora, "accept").status_code == 303


def test_confirmation_mails_are_limited_and_keep_older_links_valid(inviting: Inviting) -> None:
    mailed = inviting.invite()
    browser = inviting.new_client()
    follow(browser, inviting.copy_link())
    statuses = [browser.post("/invite/proof").status_code for _ in range(3)]
    # The limit is three mails, and the invite itself was the first.
    assert statuses == [303, 303, 429]
    assert follow(inviting.new_client(), mailed).status_code == 200


def test_invite_cannot_be_answered_with_another_account(inviting: Inviting, signed_in: SignedIn) -> None:
    link = inviting.invite()
    mallory = signed_in("mallory")
    page = follow(mallory, link)
    assert "You are signed in as" in page.text
    assert "mallory@example.com" in page.text
    assert NEW not in page.text
    revision = f"{inviting.latest_invite().id}-1"
    for action in ("accept", "decline"):
        assert mallory.post(f"/invite/{action}", data={"seen": revision}).status_code == 403
    assert inviting.latest_invite().state is InviteState.PENDING
    assert inviting.role_of("mallory@example.com") is None

    switched = mallory.post("/invite/switch")
    assert switched.location == "/invite"
    assert mallory.get("/").location == "/login"
    assert join(mallory).location == "/o/acme/"
    assert inviting.role_of() == "member"


@pytest.mark.every_database
def test_accepting_in_two_tabs_joins_once(inviting: Inviting) -> None:
    nora = inviting.add_person("nora")
    page = follow(nora, inviting.invite())
    for _ in range(2):
        accepted = submit(nora, "accept", page)
        assert (accepted.status_code, accepted.location) == (303, "/o/acme/")
    home = nora.get("/o/acme/")
    assert home.status_code == 200
    assert "can no longer be answered" not in home.text, "accepting twice shows no error"
    assert len(inviting.events("invite.accepted")) == len(inviting.events("member.joined")) == 1
    # The link in the mail now opens the organization.
    assert nora.get("/invite").location == "/o/acme/"


def test_form_of_one_invite_cannot_answer_another_invite(inviting: Inviting, database: Database) -> None:
    nora = inviting.add_person("nora")
    with database.transaction() as session:
        factories.org(session, session.get_one(User, inviting.cast.people["alice"]), "other")
    first = follow(nora, inviting.invite())
    alice = inviting.signed_in("alice")
    alice.post("/o/other/team/invites", data={"email": NEW, "role": "admin"})
    follow(nora, inviting.mailer.deliver_link_to(NEW))
    for action in ("accept", "decline"):
        refused = submit(nora, action, first)
        assert refused.status_code == 409
        assert "you opened another one" in refused.text
        assert "Join Other" in refused.text
    assert {row.state for row in inviting.all_invites()} == {InviteState.PENDING}


def test_changed_invite_must_be_seen_before_it_can_be_accepted(inviting: Inviting) -> None:
    inviting.invite()
    link = inviting.copy_link()
    nora = inviting.add_person("nora")
    page = follow(nora, link)
    inviting.invite(role="admin")
    refused = submit(nora, "accept", page)
    assert refused.status_code == 409
    assert "This invitation was changed" in refused.text
    assert submit(nora, "accept", refused).status_code == 303
    assert inviting.role_of() == "admin"


def close_invite(inviting: Inviting, database: Database, how: str) -> None:
    """Change the database so that the only invite is closed."""
    with database.transaction() as session:
        invite, org = session.query(Invite).one(), session.get_one(Org, inviting.cast.org_id)
        carol = session.query(Membership).filter_by(user_id=inviting.cast.people["carol"]).one()
        match how:
            case "expired":
                invite.expires_at = utcnow()
            case "revoked":
                invite.state = InviteState.REVOKED
            case "declined":
                invite.state = InviteState.DECLINED
            case "deleting":
                org.state, org.delete_after = OrgState.DELETING, utcnow() + timedelta(days=7)
            case "demoted":
                carol.role = MembershipRole.MEMBER
            case "disabled":
                session.get_one(User, inviting.cast.people["carol"]).disabled_at = utcnow()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("expired", "has expired"),
        ("revoked", "was withdrawn"),
        ("declined", "was declined"),
        ("deleting", "is being deleted"),
        ("demoted", "can no longer invite people"),
        ("disabled", "can no longer invite people"),
    ],
)
@pytest.mark.parametrize("with_account", [True, False])
def test_closed_invite_cannot_be_answered(
    inviting: Inviting, database: Database, how: str, words: str, *, with_account: bool
) -> None:
    person = inviting.add_person("nora") if with_account else inviting.new_client()
    page = follow(person, inviting.invite(by="carol"))
    close_invite(inviting, database, how)
    gone = person.get("/invite")
    assert gone.status_code == 410
    assert words in gone.text
    assert "Acme" in gone.text
    assert NEW not in gone.text
    for action in ("accept", "decline") if with_account else ("join",):
        if (how, action) != ("declined", "decline"):
            refused = submit(person, action, page, name="Nora", password=PASSWORD)
            assert refused.status_code == 410
    assert inviting.role_of() is None
    assert inviting.events("member.joined", "invite.accepted", "user.signed_up") == []


@pytest.mark.parametrize("path", ["/invite/" + "A" * 43, "/invite/short", "/invite/%00%0a", "/invite"])
def test_unknown_link_shows_no_names(inviting: Inviting, path: str) -> None:
    inviting.invite()
    browser = inviting.new_client()
    browser.get(path)
    page = browser.get("/invite")
    assert page.status_code == 404
    assert "Invitation not found" in page.text
    for name in ("Acme", "Alice", "example.com"):
        assert name not in page.text
    for action in ("join", "decline", "proof"):
        assert browser.post(f"/invite/{action}").status_code == 404


@pytest.mark.parametrize("action", ["join", "accept", "decline", "proof", "switch"])
def test_get_request_to_a_form_address_redirects_to_the_invite(inviting: Inviting, action: str) -> None:
    browser = inviting.new_client()
    follow(browser, inviting.invite())
    assert browser.post("/invite/join", data={"password": "short"}).status_code == 422
    # The browser requests this address after Enter in the address bar or a reload.
    assert browser.get(f"/invite/{action}").location == "/invite"
    assert "Acme" in browser.get("/invite").text


@pytest.mark.every_database
def test_invite_accepted_by_another_user_is_closed(inviting: Inviting, signed_in: SignedIn) -> None:
    link = inviting.invite()
    nora = inviting.new_client()
    follow(nora, link)
    join(nora)
    for client in (inviting.new_client(), signed_in("mallory")):
        page = follow(client, link)
        assert page.status_code == 410
        assert "already accepted" in page.text
        assert join(client).status_code in {409, 410}
    assert client.post("/invite/accept", data={"seen": f"{inviting.latest_invite().id}-1"}).status_code in {403, 410}


@pytest.mark.every_database
def test_accepting_never_lowers_a_role(inviting: Inviting, database: Database) -> None:
    nora = inviting.add_person("nora")
    link = inviting.invite(role="member")
    with database.transaction() as session:
        org = session.get_one(Org, inviting.cast.org_id)
        user = session.get_one(User, inviting.cast.people["nora"])
        factories.membership(session, org, user, MembershipRole.ADMIN)
    follow(nora, link)
    assert submit(nora, "accept").status_code == 303
    assert inviting.role_of() == "admin"


@pytest.mark.every_database
def test_member_who_left_rejoins_with_a_higher_version(inviting: Inviting, signed_in: SignedIn) -> None:
    bob = signed_in("bob")
    assert bob.post("/o/acme/team/leave").status_code == 303
    with inviting.database.reading() as session:
        removed = session.query(Membership).filter_by(user_id=inviting.cast.people["bob"]).one()
    page = follow(bob, inviting.invite("bob@example.com", role="admin"))
    assert submit(bob, "accept", page).status_code == 303
    with inviting.database.reading() as session:
        active = session.query(Membership).filter_by(user_id=inviting.cast.people["bob"]).one()
    assert (active.id, active.role) == (removed.id, "admin")
    assert active.version > removed.version
    # The same invite cannot be accepted a second time.
    bob.post("/o/acme/team/leave")
    submit(bob, "accept", page)
    assert inviting.role_of("bob@example.com") is None


def test_signed_out_visitor_cannot_accept(inviting: Inviting) -> None:
    browser = inviting.new_client()
    page = follow(browser, inviting.invite())
    refused = submit(browser, "accept", page)
    assert refused.status_code == 403
    assert "You are signed out" in refused.text
    assert inviting.latest_invite().state is InviteState.PENDING


def test_invite_page_is_not_cached(inviting: Inviting, stranger: FlaskClient) -> None:
    assert follow(stranger, inviting.invite()).headers["Cache-Control"] == "no-store"


@pytest.mark.every_database
def test_double_signup_on_the_invite_page_starts_one_session(inviting: Inviting, database: Database) -> None:
    nora = inviting.new_client()
    page = follow(nora, inviting.invite())
    submit(nora, "join", page, name="Nora", password=PASSWORD)
    second = submit(nora, "join", page, name="Nora", password=PASSWORD)
    # A second click leads to the same page as the first one.
    assert (second.status_code, second.location) == (303, "/o/acme/")
    assert nora.get("/o/acme/").status_code == 200
    with database.reading() as session:
        person = session.query(User).filter_by(email_normalized=NEW).one()
        assert session.query(UserSession).filter_by(user_id=person.id, revoked_at=None).count() == 1


def read_form(page: str) -> dict[str, str]:
    """Return the hidden fields of the form of the invite page."""
    return dict(re.findall(r'name="(csrf_token|seen)"[^>]* value="([^"]+)"', page))


def test_second_tab_of_the_person_who_accepted_lands_on_the_organization(app: Flask, inviting: Inviting) -> None:
    link, nora = inviting.invite(), inviting.add_person("nora")
    app.config["WTF_CSRF_ENABLED"] = True
    first, second = (read_form(follow(nora, link).text) for _ in range(2))
    assert nora.post("/invite/accept", data=first).location == "/o/acme/"
    late = nora.post("/invite/accept", data=second, follow_redirects=True)
    assert (late.status_code, late.request.path) == (200, "/o/acme/")


def test_second_tab_of_the_person_who_signed_up_lands_on_the_organization(app: Flask, inviting: Inviting) -> None:
    link, nora = inviting.invite(), inviting.new_client()
    app.config["WTF_CSRF_ENABLED"] = True
    person = {"name": "Nora", "password": PASSWORD}
    first, second = (read_form(follow(nora, link).text) for _ in range(2))
    assert nora.post("/invite/join", data=person | first).location == "/o/acme/"
    late = nora.post("/invite/join", data=person | second, follow_redirects=True)
    assert (late.status_code, late.request.path) == (200, "/o/acme/")


def test_form_with_an_outdated_csrf_token_accepts_nothing(app: Flask, inviting: Inviting) -> None:
    link, nora = inviting.invite(), inviting.add_person("nora")
    app.config["WTF_CSRF_ENABLED"] = True
    seen = read_form(follow(nora, link).text)["seen"]
    refused = nora.post("/invite/accept", data={"seen": seen, "csrf_token": "outdated"})
    assert (refused.status_code, refused.location) == (303, "/invite")
    assert "Join Acme" in nora.get("/invite").text
    assert inviting.role_of() is None
