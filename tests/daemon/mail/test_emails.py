"""Texts and links of account and team emails, as they arrive at a real mail server."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from daemon.mail import account_emails, team_emails
from portal.database import Database
from portal.models import (
    Base,
    Invite,
    InviteState,
    InviteToken,
    MailState,
    OneTimeToken,
    Org,
    OrgState,
    TokenPurpose,
    User,
    utcnow,
)
from portal.tokens import fingerprint
from tests.daemon.mail.conftest import BASE_URL, World, add_token, send_every_account_and_team_email
from tests.support.mail import Mailbox
from tests.support.outbox import OutboxWorker, bodies

TEMPLATES = {
    "signup",
    "reset",
    "change_email",
    "email_changed",
    "password_changed",
    "invite",
    "invite_reminder",
    "invite_proof",
    "member_removed",
    "ownership_offer_sent",
    "ownership_offered",
    "ownership_transferred",
    "org_deletion",
}
LINK = re.compile(rf"{BASE_URL}/[a-z/]+/([\w-]{{43}})")


def token_in(text: str) -> str:
    found = LINK.search(text)
    assert found, text
    return found[1]


def test_sign_up_of_an_unknown_address_sends_a_link(
    mail_worker: OutboxWorker, database: Database, smtp: Mailbox
) -> None:
    token_id = add_token(database, TokenPurpose.SIGNUP)
    mail_worker.queue("signup", token_id=token_id)

    mail_worker.send_due()

    (message,) = smtp.messages
    text, html = bodies(message)
    assert message["To"] == "new@example.com"
    assert message["From"] == "Flotilla <fleet@portal.example.com>"
    token = token_in(text)
    assert f'href="{BASE_URL}/signup/{token}"' in html
    with database.reading() as session:
        assert session.get_one(OneTimeToken, token_id).token_hash == fingerprint(token)


def test_sign_up_of_a_known_address_sends_a_hint_to_sign_in(
    mail_worker: OutboxWorker, database: Database, world: World, smtp: Mailbox
) -> None:
    token_id = add_token(database, TokenPurpose.SIGNUP, "alice@example.com")
    mail_worker.queue("signup", to="alice@example.com", token_id=token_id)

    mail_worker.send_due()

    text, html = bodies(smtp.messages[0])
    assert f"{BASE_URL}/login" in text
    assert f"{BASE_URL}/login" in html
    assert not LINK.search(text + html)
    with database.reading() as session:
        assert session.get_one(OneTimeToken, token_id).token_hash is None


def test_reset_of_a_known_address_sends_a_link(
    mail_worker: OutboxWorker, database: Database, world: World, smtp: Mailbox
) -> None:
    token_id = add_token(database, TokenPurpose.RESET, "alice@example.com")
    mail_worker.queue("reset", to="alice@example.com", token_id=token_id)

    mail_worker.send_due()

    text, _ = bodies(smtp.messages[0])
    assert f"{BASE_URL}/reset/{token_in(text)}" in text
    assert "Hello Alice" in text


@pytest.mark.parametrize("public_signup", [True, False])
def test_reset_of_an_unknown_address_says_that_there_is_no_account(
    mail_worker: OutboxWorker, database: Database, smtp: Mailbox, public_signup: bool
) -> None:
    mail_worker.settings = replace(mail_worker.settings, public_signup=public_signup)
    mail_worker.queue("reset", token_id=add_token(database, TokenPurpose.RESET))

    mail_worker.send_due()

    text, _ = bodies(smtp.messages[0])
    assert "there is no account" in text
    assert (f"{BASE_URL}/signup" in text) is public_signup
    assert not LINK.search(text)


def test_reset_of_a_disabled_account_sends_no_link(
    mail_worker: OutboxWorker, database: Database, world: World, smtp: Mailbox
) -> None:
    with database.transaction() as session:
        session.get_one(User, world.alice).disabled_at = utcnow()
    mail_worker.queue(
        "reset", to="alice@example.com", token_id=add_token(database, TokenPurpose.RESET, "alice@example.com")
    )

    mail_worker.send_due()

    text, html = bodies(smtp.messages[0])
    assert "disabled" in text
    assert not LINK.search(text + html)


def test_invite_names_organization_inviter_role_and_expiry(
    mail_worker: OutboxWorker, database: Database, world: World, smtp: Mailbox
) -> None:
    mail_worker.queue("invite", invite_token_id=world.invite_token)

    mail_worker.send_due()

    (message,) = smtp.messages
    assert message["Subject"] == "You have been invited to an organization on Flotilla"
    for body in bodies(message):
        assert "Acme" in body
        assert "as an admin" in body
        assert "at " in body
        assert f"{BASE_URL}/invite/{token_in(body)}" in body
    with database.reading() as session:
        end = session.get_one(Invite, world.invite).expires_at
        assert f"{end:%B %Y}" in " ".join(bodies(message)[0].split())
        assert session.get_one(InviteToken, world.invite_token).token_hash == fingerprint(
            token_in(bodies(message)[0])
        )


def test_every_email_has_text_and_html_with_the_same_working_links(
    mail_worker: OutboxWorker, app: Flask, world: World, smtp: Mailbox
) -> None:
    send_every_account_and_team_email(mail_worker, world)

    assert len({message["Subject"] for message in smtp.messages}) == len(smtp.messages) == len(TEMPLATES)
    routes = app.url_map.bind("portal.example.com")
    for message in smtp.messages:
        text, html = bodies(message)
        links = re.findall(r"https?://[^\s<]+", text)
        assert links
        for link in links:
            assert link in html
            assert routes.match(link.removeprefix(BASE_URL) or "/", method="GET"), link
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["Message-ID"].endswith("@portal.example.com>")


def test_every_template_is_covered_by_these_tests() -> None:
    assert set(account_emails.COMPOSERS) | set(team_emails.COMPOSERS) == TEMPLATES


def test_names_cannot_inject_headers_links_or_markup(
    mail_worker: OutboxWorker, database: Database, world: World, smtp: Mailbox
) -> None:
    with database.transaction() as session:
        session.get_one(Org, world.org).name = "Acme\r\nBcc: victim@example.com\r\n\r\n<a href='x'>win</a>"
        session.get_one(User, world.alice).name = "Visit https://evil.example.com\nnow"
    mail_worker.queue("invite", invite_token_id=world.invite_token)

    mail_worker.send_due()

    (message,) = smtp.messages
    text, html = bodies(message)
    assert message["Bcc"] is None
    assert message["X-Recipients"] == "new@example.com"
    assert "\n" not in message["Subject"]
    assert "<a href='x'>" not in html
    assert "evil.example.com" not in text + html + message["Subject"]
    assert "\nBcc" not in text


def test_address_with_a_line_break_is_refused(mail_worker: OutboxWorker, database: Database, smtp: Mailbox) -> None:
    mail_id = mail_worker.queue(
        "signup", to="a@example.com\nBcc: b@example.com", token_id=add_token(database, TokenPurpose.SIGNUP)
    )

    mail_worker.send_due()

    assert smtp.messages == []
    assert mail_worker.get_mail(mail_id).state is MailState.FAILED


def _revoke(invite: Invite, _token: InviteToken) -> None:
    invite.state = InviteState.REVOKED


def _expire(invite: Invite, _token: InviteToken) -> None:
    invite.expires_at = utcnow() - timedelta(seconds=1)


def _replace(_invite: Invite, token: InviteToken) -> None:
    token.replaced_at = utcnow()


def _delete_org(invite: Invite, _token: InviteToken) -> None:
    invite.org.state = OrgState.DELETING


@pytest.mark.parametrize(
    ("change", "reason"),
    [(_revoke, "revoked"), (_expire, "expired"), (_replace, "newer mail"), (_delete_org, "being deleted")],
)
def test_closed_invite_is_not_sent(
    mail_worker: OutboxWorker,
    world: World,
    smtp: Mailbox,
    change: Callable[[Invite, InviteToken], None],
    reason: str,
) -> None:
    mail_id = mail_worker.queue("invite", invite_token_id=world.invite_token)
    with mail_worker.database.transaction() as session:
        token = session.get_one(InviteToken, world.invite_token)
        change(token.invite, token)

    mail_worker.send_due()

    row = mail_worker.get_mail(mail_id)
    assert smtp.messages == []
    assert row.state is MailState.CANCELLED
    assert reason in (row.last_error or "")


def test_database_contains_hashes_but_no_tokens(
    mail_worker: OutboxWorker, database: Database, world: World, smtp: Mailbox
) -> None:
    mail_worker.queue("signup", token_id=add_token(database, TokenPurpose.SIGNUP))
    mail_worker.queue("invite", invite_token_id=world.invite_token)
    mail_worker.send_due()
    tokens = [token_in(bodies(message)[0]) for message in smtp.messages]

    with database.reading() as session:
        dump = "".join(str(row) for table in Base.metadata.sorted_tables for row in session.execute(sa.select(table)))

    for token in tokens:
        assert token not in dump
        assert fingerprint(token) in dump
