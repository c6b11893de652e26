"""Sending invites: rights, stored rows, mails, the list of pending invites, rate limits, failing mail servers."""

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
from portal.views.support import mail_limits
from portal.web.extensions import db
from tests import factories
from tests.portal.views.inviting import HTMX, NEW, Inviting, follow, join, submit
from tests.support.cast import SignedIn
from tests.support.mail import Mailbox
from tests.support.outbox import bodies
from tests.support.statements import counted_statements

pytestmark = pytest.mark.requests

TEAM = "/o/acme/team"


def test_invite_mail_names_inviter_org_role_and_expiry_in_text_and_html(
    inviting: Inviting, signed_in: SignedIn
) -> None:
    sent = inviting.post_form(signed_in("alice"), "New@Example.com", "admin")
    assert (sent.status_code, sent.location) == (303, f"{TEAM}#invites")

    mail = inviting.mailer.deliver_one_to("New@Example.com")
    assert mail["Subject"] == "You have been invited to an organization on Flotilla"
    expiry = inviting.latest_invite().expires_at
    for body in bodies(mail):
        words = " ".join(body.split())
        for fact in ("Alice", "Acme", "an admin", f"{expiry:%-d %B %Y}", "/invite/"):
            assert fact in words, body
    assert timedelta(days=6, hours=23) < expiry - utcnow() <= timedelta(days=7)
    (event,) = inviting.events("invite.sent")
    assert (event.actor_id, event.facts["email"]) == (inviting.cast.people["alice"], "New@Example.com")


@pytest.mark.parametrize("role", ["owner", "operator", "", "Admin"])
def test_role_that_cannot_be_assigned_is_refused(inviting: Inviting, signed_in: SignedIn, role: str) -> None:
    assert inviting.post_form(signed_in("alice"), role=role).status_code == 422
    assert inviting.all_invites() == []
    assert inviting.mails() == []


@pytest.mark.parametrize(
    "address", ["", "nobody", "a@b@c", "a b@example.com", "a@exa mple.com", "x@example.com\r\nBcc: evil@example.com"]
)
def test_invalid_address_is_refused_beside_the_field(inviting: Inviting, signed_in: SignedIn, address: str) -> None:
    refused = inviting.post_form(signed_in("alice"), address)
    assert refused.status_code == 422
    assert 'aria-invalid="true"' in refused.text
    assert inviting.all_invites() == []


@pytest.mark.parametrize(("person", "status"), [("carol", 303), ("bob", 403), ("mallory", 404), ("root", 403)])
def test_only_owners_and_admins_can_invite(inviting: Inviting, signed_in: SignedIn, person: str, status: int) -> None:
    assert inviting.post_form(signed_in(person)).status_code == status
    assert len(inviting.all_invites()) == (status == 303)


def test_member_is_the_preselected_role(signed_in: SignedIn) -> None:
    assert re.findall(r'<option selected value="(\w*)"', signed_in("alice").get(TEAM).text) == ["member"]


def test_members_see_the_team_without_invites(inviting: Inviting, signed_in: SignedIn) -> None:
    inviting.post_form(signed_in("alice"))
    bob = signed_in("bob")
    page = bob.get(TEAM)
    assert page.status_code == 200
    assert "Carol" in page.text
    assert NEW not in page.text
    assert "Invite people" not in page.text
    for verb in ("resend", "revoke", "link"):
        assert inviting.press(bob, verb).status_code == 403
    assert bob.get(f"{TEAM}/invites").status_code == 403
    assert NEW in signed_in("carol").get(TEAM).text


def test_member_cannot_be_invited_again(inviting: Inviting, signed_in: SignedIn) -> None:
    for address in ("bob@example.com", "BOB@Example.COM", "alice@example.com"):
        refused = inviting.post_form(signed_in("alice"), address)
        assert refused.status_code == 422
        assert f"{address} is already in Acme." in refused.text
    assert inviting.all_invites() == []
    assert inviting.mails() == []


def test_list_does_not_show_whether_an_address_has_an_account(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    pages = []
    for address in ("mallory@example.com", "nobody1@example.com"):
        inviting.post_form(alice, address)
        text = alice.get(f"{TEAM}/invites").text
        (line,) = [row for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL) if address in row]
        pages.append(line.replace(address, "X").replace(inviting.latest_invite().id, "ID"))
    strip = [re.sub(r'value="[^"]*"|datetime="[^"]*"|title="[^"]*"', "", page) for page in pages]
    assert strip[0] == strip[1]


@pytest.mark.every_database
def test_inviting_an_address_again_replaces_the_mailed_link(inviting: Inviting, signed_in: SignedIn) -> None:
    first = inviting.invite(role="member")
    second = inviting.invite("NEW@example.com", role="admin", by="carol")
    (row,) = inviting.all_invites()
    assert (row.role, row.invited_by, row.state) == ("admin", inviting.cast.people["carol"], InviteState.PENDING)
    old = follow(inviting.new_client(), first)
    assert old.status_code == 410
    assert "replaced by a newer one" in old.text
    assert "Join Acme" in follow(inviting.new_client(), second).text
    assert len(inviting.events("invite.resent")) == 1


@pytest.mark.every_database
def test_sending_again_replaces_mailed_links_and_renews_the_lifetime(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    first = inviting.invite()
    copied = inviting.copy_link()
    with database.transaction() as session:
        session.query(Invite).one().expires_at = utcnow() - timedelta(minutes=1)
    assert "has expired" in follow(inviting.new_client(), first).text
    assert "expired" in signed_in("alice").get(TEAM).text

    assert inviting.press(signed_in("alice"), "resend").status_code == 303
    second = inviting.mailer.deliver_link_to(NEW)
    assert "replaced" in follow(inviting.new_client(), first).text
    for link in (second, copied):
        assert follow(inviting.new_client(), link).status_code == 200
    assert inviting.latest_invite().expires_at > utcnow() + timedelta(days=6)


def test_queued_mail_is_not_sent_after_a_newer_one(inviting: Inviting, signed_in: SignedIn) -> None:
    inviting.post_form(signed_in("alice"))
    inviting.press(signed_in("alice"), "resend")
    inviting.mailer.deliver_one_to(NEW)
    assert [mail.state for mail in inviting.mails()] == [MailState.CANCELLED, MailState.SENT]


@pytest.mark.every_database
def test_revoked_invite_cannot_be_used_and_can_be_revoked_twice(inviting: Inviting, signed_in: SignedIn) -> None:
    link = inviting.invite()
    for _ in range(2):
        assert inviting.press(signed_in("carol"), "revoke").status_code == 303
    assert len(inviting.events("invite.revoked")) == 1
    gone = follow(inviting.new_client(), link)
    assert gone.status_code == 410
    assert "was withdrawn" in gone.text
    for verb in ("resend", "link"):
        assert inviting.press(signed_in("alice"), verb).status_code == 409
    assert "No pending invites" in signed_in("alice").get(TEAM).text
    # The address can be invited again.
    assert follow(inviting.new_client(), inviting.invite()).status_code == 200


def test_accepted_invite_cannot_be_revoked(inviting: Inviting, signed_in: SignedIn) -> None:
    link = inviting.invite()
    nora = inviting.new_client()
    follow(nora, link)
    assert join(nora).status_code == 303
    refused = inviting.press(signed_in("alice"), "revoke")
    assert refused.status_code == 409
    assert "has already accepted this invite" in refused.text
    assert inviting.role_of() == "member"


def test_invite_of_another_organization_is_not_found(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    inviting.post_form(signed_in("alice"))
    with database.transaction() as session:
        factories.org(session, session.get_one(User, inviting.cast.people["mallory"]), "other")
    for verb in ("resend", "revoke", "link"):
        foreign = signed_in("mallory").post(f"/o/other/team/invites/{inviting.latest_invite().id}/{verb}")
        assert foreign.status_code == 404


def test_copied_link_is_stored_only_as_a_hash(inviting: Inviting, database: Database) -> None:
    inviting.invite()
    link = inviting.copy_link()
    token = link.rpartition("/")[2]
    with database.reading() as session:
        stored = [row.token_hash for row in session.query(InviteToken)]
    assert fingerprint(token) in stored
    assert token not in stored
    (event,) = inviting.events("invite.copied")
    assert token not in str(event.data)


def test_htmx_gets_the_form_the_list_or_the_dialog_alone(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    data = {"email": NEW, "role": "member"}
    swapped = alice.post(f"{TEAM}/invites", data=data, headers=HTMX)
    assert swapped.status_code == 200
    assert swapped.text.lstrip().startswith('<section id="invites"')
    assert NEW in swapped.text
    assert f"Invite sent to {NEW}" in swapped.headers["HX-Trigger"]
    refused = alice.post(f"{TEAM}/invites", data=data | {"role": "owner"}, headers=HTMX)
    assert refused.status_code == 422
    assert refused.text.lstrip().startswith('<section id="invites"')
    listed = alice.post(f"{TEAM}/invites/{inviting.latest_invite().id}/resend", headers=HTMX)
    assert listed.text.lstrip().startswith('<div id="pending-invites"')
    dialog = alice.post(f"{TEAM}/invites/{inviting.latest_invite().id}/link", headers=HTMX)
    assert dialog.text.lstrip().startswith('<div id="invite-link"')


def test_list_polls_until_the_mail_was_sent(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    inviting.post_form(alice)
    page = alice.get(f"{TEAM}/invites").text
    found = re.search(r'hx-get="([^"]+part=pending[^"]*)" hx-trigger="every 3s"', page)
    assert found
    poll = found[1].replace("&amp;", "&")
    fresh = alice.get(poll, headers=HTMX)
    assert "sending" in fresh.text
    same = re.search(r'hx-get="([^"]+version=\w+)"', fresh.text)
    assert same
    assert alice.get(same[1].replace("&amp;", "&"), headers=HTMX).status_code == 204
    inviting.mailer.deliver()
    latest = alice.get(same[1].replace("&amp;", "&"), headers=HTMX)
    assert 'data-state="sent"' in latest.text
    assert "hx-trigger" not in latest.text.partition(">")[0]


def test_invite_is_created_while_the_mail_server_is_down_and_mailed_once_later(
    inviting: Inviting, signed_in: SignedIn, smtp: Mailbox
) -> None:
    alice = signed_in("alice")
    working = inviting.mailer.mail_worker.settings
    inviting.mailer.mail_worker.settings = replace(working, mail=replace(working.mail, port=1))
    assert inviting.post_form(alice).status_code == 303
    assert inviting.mailer.deliver() == []

    page = alice.get(TEAM)
    assert page.status_code == 200
    assert "mail not sent" in page.text
    assert "could not be sent yet" in page.text
    assert "127.0.0.1" not in page.text, "the page must not show the address of the mail server"
    assert "Try again" in page.text
    # The copied link works, and the retry replaces the queued mail.
    assert follow(inviting.new_client(), inviting.copy_link()).status_code == 200
    assert inviting.press(alice, "resend").status_code == 303
    inviting.mailer.deliver()
    assert "mail not sent" in alice.get(TEAM).text

    inviting.mailer.mail_worker.settings = working
    inviting.mailer.mail_worker.send_due(utcnow() + timedelta(hours=1))
    (only,) = smtp.messages
    assert only["To"] == NEW
    assert "mail not sent" not in alice.get(TEAM).text
    (link,) = re.findall(r"http://localhost(/invite/\S+)", bodies(only)[0])
    assert follow(inviting.new_client(), link).status_code == 200


@pytest.mark.parametrize("why", ["550 no such user at 10.0.0.7", "Given up after 152 attempts. 10.0.0.7 is mute"])
def test_list_shows_that_a_mail_could_not_be_delivered(
    inviting: Inviting, signed_in: SignedIn, database: Database, why: str
) -> None:
    alice = signed_in("alice")
    inviting.post_form(alice)
    with database.transaction() as session:
        mail = session.query(OutgoingMail).one()
        mail.state, mail.attempts, mail.last_error = MailState.FAILED, 1, why
    page = alice.get(TEAM).text
    assert "mail not sent" in page
    assert "could not be delivered. Check the address" in page
    assert "10.0.0.7" not in page


@pytest.mark.every_database
def test_one_invite_is_mailed_three_times_an_hour_at_most(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    inviting.post_form(alice)
    assert inviting.press(alice, "resend").status_code == 303
    assert inviting.post_form(alice, NEW.upper()).status_code == 303
    refused = inviting.press(alice, "resend")
    assert refused.status_code == 429
    assert re.search(r"Try again in \d+ minutes", refused.text)
    assert len(inviting.mails()) == 3
    assert inviting.post_form(alice, "other@example.com").status_code == 303


def test_organization_sends_twenty_invites_an_hour_at_most(inviting: Inviting, signed_in: SignedIn) -> None:
    for number in range(20):
        person = signed_in(("alice", "carol")[number % 2])
        assert inviting.post_form(person, f"person{number}@example.com").status_code == 303
    assert inviting.post_form(signed_in("carol"), "one-more@example.com").status_code == 429
    assert len(inviting.all_invites()) == 20


@pytest.mark.slow
def test_organization_sends_fifty_invites_a_day_at_most(
    inviting: Inviting, signed_in: SignedIn, redis_url: str, database: Database
) -> None:
    with database.transaction() as session:
        session.query(User).update({"created_at": utcnow() - mail_limits.NEW_ACCOUNT})
    statuses = []
    with Redis.from_url(redis_url) as redis:
        for number in range(51):
            if number % 20 == 0:
                clear_hourly_limits(redis)
            person = signed_in(("alice", "carol")[number % 2])
            statuses.append(inviting.post_form(person, f"person{number}@example.com").status_code)
    assert statuses == [303] * 50 + [429]


def clear_hourly_limits(redis: Redis) -> None:
    """Delete the counters of the hourly limits."""
    for key in redis.keys("*/hour"):
        redis.delete(key)


def test_refused_requests_do_not_count_against_the_organization(inviting: Inviting, signed_in: SignedIn) -> None:
    mallory = signed_in("mallory")
    for number in range(21):
        assert inviting.post_form(mallory, f"person{number}@example.com").status_code == 404
    assert inviting.post_form(signed_in("alice")).status_code == 303


@pytest.mark.every_database
def test_recipient_gets_five_invites_a_day_at_most_from_all_organizations(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    alice = signed_in("alice")
    with database.transaction() as session:
        for number in range(5):
            factories.org(session, session.get_one(User, inviting.cast.people["alice"]), f"org-{number}")
    for number in range(5):
        sent = alice.post(f"/o/org-{number}/team/invites", data={"email": NEW, "role": "member"})
        assert sent.status_code == 303
    assert inviting.post_form(alice, NEW.upper()).status_code == 429
    assert inviting.post_form(alice, "other@example.com").status_code == 303


HOSTILE = "<script>alert(1)</script> http://evil.example/x"


def test_names_are_shown_as_plain_text_and_never_as_links_or_markup(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    with database.transaction() as session:
        session.get_one(Org, inviting.cast.org_id).name = HOSTILE
        session.get_one(User, inviting.cast.people["alice"]).name = HOSTILE + "\r\nBcc: evil@example.com"
    inviting.post_form(signed_in("alice"))
    (mail,) = inviting.mailer.deliver()
    assert "\n" not in str(mail["Subject"])
    assert mail["Bcc"] is None
    text, html = bodies(mail)
    assert "http://evil.example" not in text + html, "mail programs would turn it into a link"
    assert "<script>" not in html
    page = follow(inviting.new_client(), links(mail)[0])
    for shown in (page.text, signed_in("alice").get(TEAM).text):
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert" in shown
        assert 'href="http://evil.example' not in shown


def links(mail: EmailMessage) -> list[str]:
    """Return the paths of the invite links in a mail."""
    return re.findall(r"http://localhost(/invite/[\w-]+)", bodies(mail)[0])


@pytest.mark.parametrize("name", ["Evil\r\nBcc: x@example.com", "two\nlines", "\u202etxet", ""])
def test_name_of_a_new_user_must_be_one_printable_line(inviting: Inviting, name: str) -> None:
    nora = inviting.new_client()
    follow(nora, inviting.invite())
    assert join(nora, name=name).status_code == 422
    assert inviting.role_of() is None
    assert inviting.latest_invite().state is InviteState.PENDING


@pytest.mark.every_database
def test_removing_a_member_revokes_the_invites_that_the_member_sent(inviting: Inviting, signed_in: SignedIn) -> None:
    from_carol = inviting.invite("friend@example.com", by="carol")
    from_alice = inviting.invite(by="alice")
    alice = signed_in("alice")
    page = alice.get(TEAM).text
    line = next(part for part in page.split("<tr") if "carol@example.com" in part)
    (address,) = set(re.findall(r'action="(/o/acme/team/\w+/)role"', line))
    version = re.search(r'name="version" value="(\d+)"', line)
    assert version
    assert alice.post(f"{address}remove", data={"version": version[1]}).status_code == 303

    gone = follow(inviting.new_client(), from_carol)
    assert gone.status_code == 410
    assert "was withdrawn" in gone.text
    assert follow(inviting.new_client(), from_alice).status_code == 200
    (event,) = inviting.events("invite.revoked")
    assert event.facts["email"] == "friend@example.com"


@pytest.mark.every_database
def test_invite_can_be_declined_by_mail_without_an_account(inviting: Inviting, signed_in: SignedIn) -> None:
    browser = inviting.new_client()
    page = follow(browser, inviting.invite())
    for _ in range(2):
        assert submit(browser, "decline", page).status_code == 303
    gone = browser.get("/invite")
    assert gone.status_code == 410
    assert "was declined" in gone.text
    (event,) = inviting.events("invite.declined")
    assert event.actor_id is None
    assert NEW not in signed_in("alice").get(TEAM).text


@pytest.mark.every_database
@pytest.mark.parametrize("part", ["", "?part=pending"])
def test_list_checks_the_right_of_each_inviter_once(
    app: Flask, inviting: Inviting, signed_in: SignedIn, database: Database, part: str
) -> None:
    alice, carol = signed_in("alice"), signed_in("carol")
    with app.app_context():
        engine = db.engine

    def count_statements() -> int:
        with counted_statements(engine) as statements:
            assert alice.get(f"{TEAM}/invites{part}", headers=HTMX if part else {}).status_code == 200
        return len(statements)

    inviting.post_form(alice, "one@example.com")
    inviting.post_form(carol, "two@example.com")
    count_statements()  # the first request fills caches
    few = count_statements()
    for number in range(5):
        inviting.post_form(alice, f"more-{number}@example.com")
    assert count_statements() == few
