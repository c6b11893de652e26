"""An outbox, and a worker's sending of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from daemon.mail import sender
from portal.database import Database
from portal.models import (
    Invite,
    InviteToken,
    MembershipRole,
    OneTimeToken,
    Org,
    OutgoingMail,
    TokenDelivery,
    TokenPurpose,
    User,
    utcnow,
)
from portal.services import mail, mail_attempts
from portal.settings import Settings
from tests.support.mail import Mailbox
from tests.views.conftest import Cast, SignedIn, app, cast, signed_in, stranger

__all__ = ["Cast", "Office", "SignedIn", "World", "add_token", "app", "bodies", "cast", "signed_in", "stranger"]

BASE_URL = "https://portal.example.com"


@dataclass
class Office:
    """The outbox of a test's database and the sending of it, as a worker does it."""

    database: Database
    settings: Settings

    def serves(self, mailbox: Mailbox, **options: Any) -> None:
        """Send to that server from now on, in the clear unless the options say otherwise."""
        address: dict[str, Any] = {"server": mailbox.host, "port": mailbox.port, "use_tls": False}
        self.settings = replace(self.settings, mail=replace(self.settings.mail, **address | options))

    def post(self, template: str, to: str = "new@example.com", **context: str) -> str:
        """Write a mail; its id."""
        key = f"{template}:{context}"
        with self.database.transaction() as session:
            return mail.post(session, to=to, template=template, dedupe_key=key, context=dict(context)).id

    def send_due(self, now: datetime | None = None) -> int:
        """Send whatever is due; how many mails that were."""
        now = now or utcnow()
        with self.database.reading() as session:
            due = mail_attempts.due(session, now)
        for mail_id in due:
            sender.send(self.database, self.settings, mail_id, now)
        return len(due)

    def row(self, mail_id: str) -> OutgoingMail:
        """The mail as it is now."""
        with self.database.reading() as session:
            return session.get_one(OutgoingMail, mail_id)


@dataclass(frozen=True)
class World:
    """Rows that mails are about: Alice owns Acme and invited somebody."""

    alice: str
    org: str
    invite: str
    invite_token: str


@pytest.fixture
def office(database: Database, settings: Settings, smtp: Mailbox) -> Office:
    """An outbox whose mails go to `smtp`."""
    mail_settings = replace(settings.mail, sender="Flotilla <fleet@portal.example.com>")
    office = Office(database, replace(settings, base_url=BASE_URL, mail=mail_settings))
    office.serves(smtp)
    return office


@pytest.fixture
def world(database: Database) -> World:
    """Alice, Acme and an invite."""
    with database.transaction() as session:
        alice = User(email="alice@example.com", email_normalized="alice@example.com", name="Alice")
        session.add(alice)
        session.flush()
        org = Org(slug="acme", name="Acme", owner_id=alice.id)
        session.add(org)
        session.flush()
        invite = Invite(
            org_id=org.id,
            email="new@example.com",
            email_normalized="new@example.com",
            role=MembershipRole.ADMIN,
            invited_by=alice.id,
            expires_at=utcnow() + timedelta(days=7),
        )
        session.add(invite)
        session.flush()
        token = InviteToken(invite_id=invite.id, delivery=TokenDelivery.MAILED)
        session.add(token)
        session.flush()
        return World(alice.id, org.id, invite.id, token.id)


def add_token(
    database: Database, purpose: TokenPurpose, address: str = "new@example.com", user_id: str | None = None
) -> str:
    """Ask for a mailed link; the id of its row."""
    with database.transaction() as session:
        token = OneTimeToken(
            purpose=purpose,
            email=address,
            email_normalized=address,
            user_id=user_id,
            expires_at=utcnow() + timedelta(hours=1),
        )
        session.add(token)
        session.flush()
        return token.id


def bodies(message: Any) -> tuple[str, str]:
    """A mail's text and HTML."""
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    return text.get_content(), html.get_content()
