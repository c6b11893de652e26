"""An outbox, and rows that mails are about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from portal.database import Database
from portal.models import (
    Invite,
    InviteToken,
    MembershipRole,
    OneTimeToken,
    Org,
    TokenDelivery,
    TokenPurpose,
    User,
    utcnow,
)
from portal.settings import Settings
from tests.support.mail import Mailbox
from tests.support.outbox import Office

BASE_URL = "https://portal.example.com"


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
