"""The page of an invite: who sees what, accepting in every way there is, and links that are of no use any more."""

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
from tests.portal.views.inviting import NEW, PASSWORD, Inviting, answer, follow, join
from tests.support.cast import SignedIn
from tests.support.scene import Scene


def test_a_new_person_signs_up_on_the_page_and_lands_in_the_organization(
    inviting: Inviting, scene: Scene, database: Database
) -> None:
    link = inviting.invited(role="admin")
    nora = inviting.browser()
    page = follow(nora, link)
    for fact in ("Acme", "Alice", "admin", "n•••@example.com", "UTC"):
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
    # The password is theirs.
    again = inviting.browser()
    assert again.post("/login", data={"email": NEW, "password": PASSWORD}).location == "/"


def test_scanners_that_follow_links_consume_nothing(inviting: Inviting) -> None:
    link = inviting.invited()
    for _ in range(3):
        scanner = inviting.browser()
        assert scanner.head(link).status_code == 303
        assert follow(scanner, link).status_code == 200
    assert inviting.row().state is InviteState.PENDING
    nora = inviting.browser()
    follow(nora, link)
    assert join(nora).status_code == 303


def test_invites_work_while_public_sign_up_is_off(app: Flask, inviting: Inviting) -> None:
    app.extensions["settings"] = replace(app.extensions["settings"], public_signup=False)
    nora = inviting.browser()
    follow(nora, inviting.invited())
    assert join(nora).status_code == 303


@pytest.mark.parametrize(
    ("name", "password"), [("", PASSWORD), ("Nora", ""), ("Nora", "short"), ("Nora", "new@example.com")]
)
def test_a_refused_account_leaves_the_invite_as_it_was(inviting: Inviting, name: str, password: str) -> None:
    nora = inviting.browser()
    follow(nora, inviting.invited())
    refused = join(nora, name, password)
    assert refused.status_code == 422
    assert 'aria-invalid="true"' in refused.text
    assert inviting.row().state is InviteState.PENDING
    assert join(nora).status_code == 303


def test_accepting_signed_in_gives_the_session_another_id(inviting: Inviting) -> None:
    nora = inviting.add_person("nora")
    before = nora.get_cookie("flotilla-session")
    assert before is not None
    page = follow(nora, inviting.invited())
    assert "Join Acme" in page.text
    accepted = answer(nora, "accept")
    assert (accepted.status_code, accepted.location) == (303, "/o/acme/")
    assert nora.get("/o/acme/").status_code == 200
    after = nora.get_cookie("flotilla-session")
    assert after is not None
    assert after.value != before.value
    stolen = inviting.browser()
    stolen.set_cookie("flotilla-session", before.value)
    assert stolen.get("/o/acme/").location.startswith("/login")


def test_accepting_after_sign_in(inviting: Inviting, database: Database) -> None:
    inviting.add_person("nora")
    stored = hash_password(PASSWORD)
    with database.transaction() as session:
        session.get_one(User, inviting.cast.people["nora"]).password_hash = stored
    browser = inviting.browser()
    page = follow(browser, inviting.invited())
    assert "Your address has an account here" in page.text
    assert 'href="/login?next=/invite"' in page.text
    assert 'name="password"' not in page.text
    signed_in = browser.post("/login", data={"email": NEW, "password": PASSWORD, "next": "/invite"})
    assert signed_in.location == "/invite"
    assert answer(browser, "accept").location == "/o/acme/"
    assert inviting.role_of() == "member"


def test_addresses_that_differ_in_case_are_the_same(inviting: Inviting) -> None:
    nora = inviting.add_person("nora", "New@Example.com")
    follow(nora, inviting.invited("nEw@eXample.COM"))
    assert answer(nora, "accept").status_code == 303
    assert inviting.role_of() == "member"


def test_nobody_accepts_by_a_link_that_was_not_mailed_without_proving_the_address(inviting: Inviting) -> None:
    inviting.invited()
    link = inviting.copied()
    browser = inviting.browser()
    page = follow(browser, link)
    assert 'name="password"' not in page.text
    assert "n•••@example.com" in page.text
    assert NEW not in page.text
    tampered = {"seen": f"{inviting.row().id}-{inviting.row().version}", "name": "Nora", "password": PASSWORD}
    for verb in ("join", "decline"):
        assert browser.post(f"/invite/{verb}", data=tampered).status_code == 409
    assert inviting.role_of() is None
    assert inviting.row().state is InviteState.PENDING

    sent = browser.post("/invite/proof")
    assert sent.location == "/invite/mailed"
    mailed = browser.get(sent.location).text
    assert "n•••@example.com" in mailed
    assert NEW not in mailed
    proof = inviting.post.link(NEW)
    follow(browser, proof)
    assert join(browser).status_code == 303
    assert inviting.role_of() == "member"


def test_a_copied_link_tells_nobody_whether_there_is_an_account(inviting: Inviting) -> None:
    pages = []
    inviting.add_person("known", "known@example.com")
    for address in ("known@example.com", "kempt@example.com"):
        inviting.invited(address)
        browser = inviting.browser()
        page = follow(browser, inviting.copied())
        shown = re.sub(r"<dt>Ends.*?</dd>|value=\S+", "", page.text.partition("<main")[2], flags=re.DOTALL)
        pages.append((shown, browser.post("/invite/proof").location))
        inviting.post.one_to(address)
    assert pages[0] == pages[1]
    assert "k•••@example.com" in pages[0][0]


def test_a_copied_link_is_enough_for_who_is_signed_in_with_the_address(inviting: Inviting) -> None:
    inviting.invited()
    nora = inviting.add_person("nora")
    follow(nora, inviting.copied())
    assert answer(nora, "accept").status_code == 303


def test_asking_for_proof_kills_no_link_and_is_limited(inviting: Inviting) -> None:
    mailed = inviting.invited()
    browser = inviting.browser()
    follow(browser, inviting.copied())
    statuses = [browser.post("/invite/proof").status_code for _ in range(3)]
    # The mail of the inviter was the first of three.
    assert statuses == [303, 303, 429]
    assert follow(inviting.browser(), mailed).status_code == 200


def test_the_wrong_account_is_told_and_consumes_nothing(inviting: Inviting, signed_in: SignedIn) -> None:
    link = inviting.invited()
    mallory = signed_in("mallory")
    page = follow(mallory, link)
    assert "You are signed in as" in page.text
    assert "mallory@example.com" in page.text
    assert NEW not in page.text
    mark = f"{inviting.row().id}-1"
    for verb in ("accept", "decline"):
        assert mallory.post(f"/invite/{verb}", data={"seen": mark}).status_code == 403
    assert inviting.row().state is InviteState.PENDING
    assert inviting.role_of("mallory@example.com") is None

    switched = mallory.post("/invite/switch")
    assert switched.location == "/invite"
    assert mallory.get("/").location == "/login"
    assert join(mallory).location == "/o/acme/"
    assert inviting.role_of() == "member"


def test_two_tabs_accept_the_same_invite_once(inviting: Inviting) -> None:
    nora = inviting.add_person("nora")
    page = follow(nora, inviting.invited())
    for _ in range(2):
        accepted = answer(nora, "accept", page)
        assert (accepted.status_code, accepted.location) == (303, "/o/acme/")
    home = nora.get("/o/acme/")
    assert home.status_code == 200
    assert "cannot be answered" not in home.text, "harmless is not a complaint"
    assert len(inviting.events("invite.accepted")) == len(inviting.events("member.joined")) == 1
    # The link in the mail leads home from now on.
    assert nora.get("/invite").location == "/o/acme/"


def test_a_tab_never_answers_the_invite_of_another_tab(inviting: Inviting, database: Database) -> None:
    nora = inviting.add_person("nora")
    with database.transaction() as session:
        session.add(Org(slug="other", name="Other", owner_id=inviting.cast.people["alice"]))
    first = follow(nora, inviting.invited())
    alice = inviting.signed_in("alice")
    alice.post("/o/other/team/invites", data={"email": NEW, "role": "admin"})
    follow(nora, inviting.post.link(NEW))
    for verb in ("accept", "decline"):
        refused = answer(nora, verb, first)
        assert refused.status_code == 409
        assert "another one opened" in refused.text
        assert "Join Other" in refused.text
    assert {row.state for row in inviting.rows()} == {InviteState.PENDING}


def test_what_was_changed_meanwhile_is_shown_again_first(inviting: Inviting) -> None:
    inviting.invited()
    link = inviting.copied()
    nora = inviting.add_person("nora")
    page = follow(nora, link)
    inviting.invited(role="admin")
    refused = answer(nora, "accept", page)
    assert refused.status_code == 409
    assert "Look again" in refused.text
    assert answer(nora, "accept", refused).status_code == 303
    assert inviting.role_of() == "admin"


def close_by(inviting: Inviting, database: Database, how: str) -> None:
    """Let the newest invite become useless."""
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
        ("revoked", "was taken back"),
        ("declined", "was declined"),
        ("deleting", "is being deleted"),
        ("demoted", "may not invite people any more"),
        ("disabled", "may not invite people any more"),
    ],
)
@pytest.mark.parametrize("with_account", [True, False])
def test_a_link_that_is_of_no_use_any_more(
    inviting: Inviting, database: Database, how: str, words: str, *, with_account: bool
) -> None:
    person = inviting.add_person("nora") if with_account else inviting.browser()
    page = follow(person, inviting.invited(by="carol"))
    close_by(inviting, database, how)
    gone = person.get("/invite")
    assert gone.status_code == 410
    assert words in gone.text
    assert "Acme" in gone.text
    assert NEW not in gone.text
    for verb in ("accept", "decline") if with_account else ("join",):
        if (how, verb) != ("declined", "decline"):
            refused = answer(person, verb, page, name="Nora", password=PASSWORD)
            assert refused.status_code == 410
    assert inviting.role_of() is None
    assert inviting.events("member.joined", "invite.accepted", "user.signed_up") == []


@pytest.mark.parametrize("path", ["/invite/" + "A" * 43, "/invite/short", "/invite/%00%0a", "/invite"])
def test_an_unknown_link_names_nobody(inviting: Inviting, path: str) -> None:
    inviting.invited()
    browser = inviting.browser()
    browser.get(path)
    page = browser.get("/invite")
    assert page.status_code == 404
    assert "No invitation waits here" in page.text
    for name in ("Acme", "Alice", "example.com"):
        assert name not in page.text
    for verb in ("join", "decline", "proof"):
        assert browser.post(f"/invite/{verb}").status_code == 404


@pytest.mark.parametrize("verb", ["join", "accept", "decline", "proof", "switch"])
def test_the_address_of_a_form_leads_back_to_the_invite(inviting: Inviting, verb: str) -> None:
    browser = inviting.browser()
    follow(browser, inviting.invited())
    assert browser.post("/invite/join", data={"password": "short"}).status_code == 422
    # Enter in the address bar, or a reload after the refused form.
    assert browser.get(f"/invite/{verb}").location == "/invite"
    assert "Acme" in browser.get("/invite").text


def test_an_invite_that_somebody_else_accepted(inviting: Inviting, signed_in: SignedIn) -> None:
    link = inviting.invited()
    nora = inviting.browser()
    follow(nora, link)
    join(nora)
    for late in (inviting.browser(), signed_in("mallory")):
        page = follow(late, link)
        assert page.status_code == 410
        assert "accepted already" in page.text
        assert join(late).status_code in {409, 410}
    assert late.post("/invite/accept", data={"seen": f"{inviting.row().id}-1"}).status_code in {403, 410}


def test_accepting_never_lowers_a_role(inviting: Inviting, database: Database) -> None:
    nora = inviting.add_person("nora")
    link = inviting.invited(role="member")
    with database.transaction() as session:
        person = inviting.cast.people["nora"]
        session.add(Membership(org_id=inviting.cast.org_id, user_id=person, role=MembershipRole.ADMIN))
    follow(nora, link)
    assert answer(nora, "accept").status_code == 303
    assert inviting.role_of() == "admin"


def test_who_was_removed_comes_back_with_a_newer_version(inviting: Inviting, signed_in: SignedIn) -> None:
    bob = signed_in("bob")
    assert bob.post("/o/acme/team/leave").status_code == 303
    with inviting.database.reading() as session:
        tombstone = session.query(Membership).filter_by(user_id=inviting.cast.people["bob"]).one()
    page = follow(bob, inviting.invited("bob@example.com", role="admin"))
    assert answer(bob, "accept", page).status_code == 303
    with inviting.database.reading() as session:
        back = session.query(Membership).filter_by(user_id=inviting.cast.people["bob"]).one()
    assert (back.id, back.role) == (tombstone.id, "admin")
    assert back.version > tombstone.version
    # The invite that was accepted brings nobody back a second time.
    bob.post("/o/acme/team/leave")
    answer(bob, "accept", page)
    assert inviting.role_of("bob@example.com") is None


def test_signed_out_people_cannot_accept(inviting: Inviting) -> None:
    browser = inviting.browser()
    page = follow(browser, inviting.invited())
    refused = answer(browser, "accept", page)
    assert refused.status_code == 403
    assert "You are signed out" in refused.text
    assert inviting.row().state is InviteState.PENDING


def test_the_page_is_kept_by_nobody(inviting: Inviting, stranger: FlaskClient) -> None:
    assert follow(stranger, inviting.invited()).headers["Cache-Control"] == "no-store"


def test_sign_up_on_the_page_starts_one_session(inviting: Inviting, database: Database) -> None:
    nora = inviting.browser()
    page = follow(nora, inviting.invited())
    answer(nora, "join", page, name="Nora", password=PASSWORD)
    second = answer(nora, "join", page, name="Nora", password=PASSWORD)
    # A second click lands where the first one did.
    assert (second.status_code, second.location) == (303, "/o/acme/")
    assert nora.get("/o/acme/").status_code == 200
    with database.reading() as session:
        person = session.query(User).filter_by(email_normalized=NEW).one()
        assert session.query(UserSession).filter_by(user_id=person.id, revoked_at=None).count() == 1
