"""Inviting: who may, what is written and mailed, the list of pending invites, and mail that does not work."""

import re
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage

import pytest
from flask import Flask
from redis import Redis

from portal.database import Database
from portal.models import Invite, InviteState, InviteToken, MailState, Org, OutgoingMail, User, utcnow
from portal.tokens import fingerprint
from portal.web.extensions import db
from tests.portal.views.inviting import HTMX, NEW, Inviting, answer, follow, join
from tests.support.cast import SignedIn
from tests.support.mail import Mailbox
from tests.support.outbox import bodies
from tests.support.statements import counted_statements

TEAM = "/o/acme/team"


def test_the_mail_names_everything_in_text_and_html(inviting: Inviting, signed_in: SignedIn) -> None:
    sent = inviting.send(signed_in("alice"), "New@Example.com", "admin")
    assert (sent.status_code, sent.location) == (303, f"{TEAM}#invites")

    mail = inviting.post.one_to("New@Example.com")
    assert mail["Subject"] == "Alice invites you to Acme"
    expiry = inviting.row().expires_at
    for body in bodies(mail):
        words = " ".join(body.split())
        for fact in ("Alice", "Acme", "an admin", f"{expiry:%-d %B %Y}", "/invite/"):
            assert fact in words, body
    assert timedelta(days=6, hours=23) < expiry - utcnow() <= timedelta(days=7)
    (event,) = inviting.events("invite.sent")
    assert (event.actor_id, event.data["email"]) == (inviting.cast.people["alice"], "New@Example.com")


@pytest.mark.parametrize("role", ["owner", "operator", "", "Admin"])
def test_a_tampered_role_is_refused(inviting: Inviting, signed_in: SignedIn, role: str) -> None:
    assert inviting.send(signed_in("alice"), role=role).status_code == 422
    assert inviting.rows() == []
    assert inviting.mails() == []


@pytest.mark.parametrize(
    "address", ["", "nobody", "a@b@c", "a b@example.com", "a@exa mple.com", "x@example.com\r\nBcc: evil@example.com"]
)
def test_an_address_that_is_none_is_refused_in_place(inviting: Inviting, signed_in: SignedIn, address: str) -> None:
    refused = inviting.send(signed_in("alice"), address)
    assert refused.status_code == 422
    assert 'aria-invalid="true"' in refused.text
    assert inviting.rows() == []


@pytest.mark.parametrize(("person", "status"), [("carol", 303), ("bob", 403), ("mallory", 404), ("root", 403)])
def test_owners_and_admins_invite(inviting: Inviting, signed_in: SignedIn, person: str, status: int) -> None:
    assert inviting.send(signed_in(person)).status_code == status
    assert len(inviting.rows()) == (status == 303)


def test_members_see_the_team_but_no_invites(inviting: Inviting, signed_in: SignedIn) -> None:
    inviting.send(signed_in("alice"))
    bob = signed_in("bob")
    page = bob.get(TEAM)
    assert page.status_code == 200
    assert "Carol" in page.text
    assert NEW not in page.text
    assert "Invite people" not in page.text
    for verb in ("resend", "revoke", "link"):
        assert inviting.verb(bob, verb).status_code == 403
    assert bob.get(f"{TEAM}/invites").status_code == 403
    assert NEW in signed_in("carol").get(TEAM).text


def test_a_member_is_not_invited_again(inviting: Inviting, signed_in: SignedIn) -> None:
    for address in ("bob@example.com", "BOB@Example.COM", "alice@example.com"):
        refused = inviting.send(signed_in("alice"), address)
        assert refused.status_code == 422
        assert f"{address} belongs to Acme already." in refused.text
    assert inviting.rows() == []
    assert inviting.mails() == []


def test_known_and_unknown_addresses_are_invited_alike(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    pages = []
    for address in ("mallory@example.com", "nobody1@example.com"):
        inviting.send(alice, address)
        text = alice.get(f"{TEAM}/invites").text
        (line,) = [row for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL) if address in row]
        pages.append(line.replace(address, "X").replace(inviting.row().id, "ID"))
    strip = [re.sub(r'value="[^"]*"|datetime="[^"]*"|title="[^"]*"', "", page) for page in pages]
    assert strip[0] == strip[1]


def test_inviting_again_replaces_the_mailed_link(inviting: Inviting, signed_in: SignedIn) -> None:
    first = inviting.invited(role="member")
    second = inviting.invited("NEW@example.com", role="admin", by="carol")
    (row,) = inviting.rows()
    assert (row.role, row.invited_by, row.state) == ("admin", inviting.cast.people["carol"], InviteState.PENDING)
    old = follow(inviting.browser(), first)
    assert old.status_code == 410
    assert "replaced by a newer one" in old.text
    assert "Join Acme" in follow(inviting.browser(), second).text
    assert len(inviting.events("invite.resent")) == 1


def test_mailing_again_replaces_mailed_links_and_prolongs(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    first = inviting.invited()
    copied = inviting.copied()
    with database.transaction() as session:
        session.query(Invite).one().expires_at = utcnow() - timedelta(minutes=1)
    assert "has expired" in follow(inviting.browser(), first).text
    assert "expired" in signed_in("alice").get(TEAM).text

    assert inviting.verb(signed_in("alice"), "resend").status_code == 303
    second = inviting.post.link(NEW)
    assert "replaced" in follow(inviting.browser(), first).text
    for link in (second, copied):
        assert follow(inviting.browser(), link).status_code == 200
    assert inviting.row().expires_at > utcnow() + timedelta(days=6)


def test_an_older_mail_that_still_waits_is_not_sent_any_more(inviting: Inviting, signed_in: SignedIn) -> None:
    inviting.send(signed_in("alice"))
    inviting.verb(signed_in("alice"), "resend")
    inviting.post.one_to(NEW)
    assert [mail.state for mail in inviting.mails()] == [MailState.FAILED, MailState.SENT]


def test_a_revoked_invite_is_dead_and_revoking_twice_is_harmless(inviting: Inviting, signed_in: SignedIn) -> None:
    link = inviting.invited()
    for _ in range(2):
        assert inviting.verb(signed_in("carol"), "revoke").status_code == 303
    assert len(inviting.events("invite.revoked")) == 1
    gone = follow(inviting.browser(), link)
    assert gone.status_code == 410
    assert "taken back" in gone.text
    for verb in ("resend", "link"):
        assert inviting.verb(signed_in("alice"), verb).status_code == 409
    assert "No invite is pending" in signed_in("alice").get(TEAM).text
    # The address may be invited anew.
    assert follow(inviting.browser(), inviting.invited()).status_code == 200


def test_what_was_accepted_cannot_be_revoked(inviting: Inviting, signed_in: SignedIn) -> None:
    link = inviting.invited()
    nora = inviting.browser()
    follow(nora, link)
    assert join(nora).status_code == 303
    refused = inviting.verb(signed_in("alice"), "revoke")
    assert refused.status_code == 409
    assert "has accepted this invite already" in refused.text
    assert inviting.role_of() == "member"


def test_an_invite_of_another_organization_does_not_exist_here(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    inviting.send(signed_in("alice"))
    with database.transaction() as session:
        session.add(Org(slug="other", name="Other", owner_id=inviting.cast.people["mallory"]))
    for verb in ("resend", "revoke", "link"):
        foreign = signed_in("mallory").post(f"/o/other/team/invites/{inviting.row().id}/{verb}")
        assert foreign.status_code == 404


def test_a_link_is_shown_once_and_stored_nowhere(inviting: Inviting, database: Database) -> None:
    inviting.invited()
    link = inviting.copied()
    token = link.rpartition("/")[2]
    with database.reading() as session:
        stored = [row.token_hash for row in session.query(InviteToken)]
    assert fingerprint(token) in stored
    assert token not in stored
    (event,) = inviting.events("invite.copied")
    assert token not in str(event.data)


def test_htmx_swaps_the_form_and_the_list(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    data = {"email": NEW, "role": "member"}
    swapped = alice.post(f"{TEAM}/invites", data=data, headers=HTMX)
    assert swapped.status_code == 200
    assert swapped.text.lstrip().startswith('<section id="invites"')
    assert NEW in swapped.text
    assert "is invited" in swapped.headers["HX-Trigger"]
    refused = alice.post(f"{TEAM}/invites", data=data | {"role": "owner"}, headers=HTMX)
    assert refused.status_code == 422
    assert refused.text.lstrip().startswith('<section id="invites"')
    listed = alice.post(f"{TEAM}/invites/{inviting.row().id}/resend", headers=HTMX)
    assert listed.text.lstrip().startswith('<div id="pending-invites"')
    dialog = alice.post(f"{TEAM}/invites/{inviting.row().id}/link", headers=HTMX)
    assert dialog.text.lstrip().startswith('<div id="invite-link"')


def test_the_list_polls_until_it_is_known_what_came_of_the_mail(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    inviting.send(alice)
    page = alice.get(f"{TEAM}/invites").text
    found = re.search(r'hx-get="([^"]+part=pending[^"]*)" hx-trigger="every 3s"', page)
    assert found
    poll = found[1].replace("&amp;", "&")
    fresh = alice.get(poll, headers=HTMX)
    assert "sending" in fresh.text
    same = re.search(r'hx-get="([^"]+version=\w+)"', fresh.text)
    assert same
    assert alice.get(same[1].replace("&amp;", "&"), headers=HTMX).status_code == 204
    inviting.post.deliver()
    told = alice.get(same[1].replace("&amp;", "&"), headers=HTMX)
    assert 'data-state="sent"' in told.text
    assert "hx-trigger" not in told.text.partition(">")[0]


def test_with_the_mail_server_down_inviting_works_says_so_and_one_mail_comes_later(
    inviting: Inviting, signed_in: SignedIn, smtp: Mailbox
) -> None:
    alice = signed_in("alice")
    working = inviting.post.office.settings
    inviting.post.office.settings = replace(working, mail=replace(working.mail, port=1))
    assert inviting.send(alice).status_code == 303
    assert inviting.post.deliver() == []

    page = alice.get(TEAM)
    assert page.status_code == 200
    assert "mail not sent" in page.text
    assert "cannot be reached" in page.text
    assert "127.0.0.1" not in page.text, "where the mail server is, is nobody's business here"
    assert "Try again" in page.text
    # The copied link works meanwhile, and the retry replaces the mail that waits.
    assert follow(inviting.browser(), inviting.copied()).status_code == 200
    assert inviting.verb(alice, "resend").status_code == 303
    inviting.post.deliver()
    assert "mail not sent" in alice.get(TEAM).text

    inviting.post.office.settings = working
    inviting.post.office.send_due(utcnow() + timedelta(hours=1))
    (only,) = smtp.messages
    assert only["To"] == NEW
    assert "mail not sent" not in alice.get(TEAM).text
    (link,) = re.findall(r"http://localhost(/invite/\S+)", bodies(only)[0])
    assert follow(inviting.browser(), link).status_code == 200


@pytest.mark.parametrize("why", ["550 no such user at 10.0.0.7", "Given up after 152 attempts. 10.0.0.7 is mute"])
def test_a_mail_that_cannot_be_delivered_is_told(
    inviting: Inviting, signed_in: SignedIn, database: Database, why: str
) -> None:
    alice = signed_in("alice")
    inviting.send(alice)
    with database.transaction() as session:
        mail = session.query(OutgoingMail).one()
        mail.state, mail.attempts, mail.last_error = MailState.FAILED, 1, why
    page = alice.get(TEAM).text
    assert "mail not sent" in page
    assert "could not be delivered. Check the address" in page
    assert "10.0.0.7" not in page


def test_three_mails_an_hour_for_one_invite(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    inviting.send(alice)
    assert inviting.verb(alice, "resend").status_code == 303
    assert inviting.send(alice, NEW.upper()).status_code == 303
    refused = inviting.verb(alice, "resend")
    assert refused.status_code == 429
    assert re.search(r"Try again in \d+ minutes", refused.text)
    assert len(inviting.mails()) == 3
    assert inviting.send(alice, "other@example.com").status_code == 303


def test_twenty_invites_an_hour_for_one_organization(inviting: Inviting, signed_in: SignedIn) -> None:
    for number in range(20):
        person = signed_in(("alice", "carol")[number % 2])
        assert inviting.send(person, f"person{number}@example.com").status_code == 303
    assert inviting.send(signed_in("carol"), "one-more@example.com").status_code == 429
    assert len(inviting.rows()) == 20


def test_fifty_invites_a_day_for_one_organization(inviting: Inviting, signed_in: SignedIn, redis_url: str) -> None:
    statuses = []
    with Redis.from_url(redis_url) as redis:
        for number in range(51):
            if number % 20 == 0:
                an_hour_later(redis)
            statuses.append(inviting.send(signed_in("alice"), f"person{number}@example.com").status_code)
    assert statuses == [303] * 50 + [429]


def an_hour_later(redis: Redis) -> None:
    """Forget what the limits of an hour have counted."""
    for key in redis.keys("*/hour"):
        redis.delete(key)


def test_refused_people_do_not_use_up_the_organizations_share(inviting: Inviting, signed_in: SignedIn) -> None:
    mallory = signed_in("mallory")
    for number in range(21):
        assert inviting.send(mallory, f"person{number}@example.com").status_code == 404
    assert inviting.send(signed_in("alice")).status_code == 303


def test_five_invites_a_day_for_one_recipient_over_all_organizations(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    alice = signed_in("alice")
    with database.transaction() as session:
        for number in range(5):
            session.add(Org(slug=f"org-{number}", name=f"Org {number}", owner_id=inviting.cast.people["alice"]))
    for number in range(5):
        sent = alice.post(f"/o/org-{number}/team/invites", data={"email": NEW, "role": "member"})
        assert sent.status_code == 303
    assert inviting.send(alice, NEW.upper()).status_code == 429
    assert inviting.send(alice, "other@example.com").status_code == 303


HOSTILE = "<script>alert(1)</script> http://evil.example/x"


def test_names_are_shown_as_they_are_and_never_as_links_or_markup(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    with database.transaction() as session:
        session.get_one(Org, inviting.cast.org_id).name = HOSTILE
        session.get_one(User, inviting.cast.people["alice"]).name = HOSTILE + "\r\nBcc: evil@example.com"
    inviting.send(signed_in("alice"))
    (mail,) = inviting.post.deliver()
    assert "\n" not in str(mail["Subject"])
    assert mail["Bcc"] is None
    text, html = bodies(mail)
    assert "http://evil.example" not in text + html, "mail programs would make a link of it"
    assert "<script>" not in html
    page = follow(inviting.browser(), links(mail)[0])
    for shown in (page.text, signed_in("alice").get(TEAM).text):
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert" in shown
        assert 'href="http://evil.example' not in shown


def links(mail: EmailMessage) -> list[str]:
    """The paths of the links to invites in a mail."""
    return re.findall(r"http://localhost(/invite/[\w-]+)", bodies(mail)[0])


@pytest.mark.parametrize("name", ["Evil\r\nBcc: x@example.com", "two\nlines", "\u202etxet", ""])
def test_a_new_persons_name_is_one_printable_line(inviting: Inviting, name: str) -> None:
    nora = inviting.browser()
    follow(nora, inviting.invited())
    assert join(nora, name=name).status_code == 422
    assert inviting.role_of() is None
    assert inviting.row().state is InviteState.PENDING


def test_removing_somebody_closes_invites_to_them_and_from_them(inviting: Inviting, signed_in: SignedIn) -> None:
    from_carol = inviting.invited("friend@example.com", by="carol")
    from_alice = inviting.invited(by="alice")
    alice = signed_in("alice")
    page = alice.get(TEAM).text
    line = next(part for part in page.split("<tr") if "carol@example.com" in part)
    (address,) = set(re.findall(r'action="(/o/acme/team/\w+/)role"', line))
    version = re.search(r'name="version" value="(\d+)"', line)
    assert version
    assert alice.post(f"{address}remove", data={"version": version[1]}).status_code == 303

    gone = follow(inviting.browser(), from_carol)
    assert gone.status_code == 410
    assert "taken back" in gone.text
    assert follow(inviting.browser(), from_alice).status_code == 200
    (event,) = inviting.events("invite.revoked")
    assert event.data["email"] == "friend@example.com"


def test_declining_by_mail_needs_no_account_and_happens_once(inviting: Inviting, signed_in: SignedIn) -> None:
    browser = inviting.browser()
    page = follow(browser, inviting.invited())
    for _ in range(2):
        assert answer(browser, "decline", page).status_code == 303
    gone = browser.get("/invite")
    assert gone.status_code == 410
    assert "was declined" in gone.text
    (event,) = inviting.events("invite.declined")
    assert event.actor_id is None
    assert NEW not in signed_in("alice").get(TEAM).text


@pytest.mark.parametrize("part", ["", "?part=pending"])
def test_the_list_asks_once_for_each_who_invited(
    app: Flask, inviting: Inviting, signed_in: SignedIn, database: Database, part: str
) -> None:
    alice, carol = signed_in("alice"), signed_in("carol")
    with app.app_context():
        engine = db.engine

    def needed() -> int:
        with counted_statements(engine) as statements:
            assert alice.get(f"{TEAM}/invites{part}", headers=HTMX if part else {}).status_code == 200
        return len(statements)

    inviting.send(alice, "one@example.com")
    inviting.send(carol, "two@example.com")
    needed()  # the first time, settings are made and remembered
    few = needed()
    for number in range(5):
        inviting.send(alice, f"more-{number}@example.com")
    assert needed() == few
