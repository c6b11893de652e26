"""Fixtures of the email tests: a mail worker and rows that emails are about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from portal.database import Database
from portal.models import (
    InviteToken,
    MembershipRole,
    OneTimeToken,
    Org,
    OrgState,
    TokenDelivery,
    TokenPurpose,
    utcnow,
)
from portal.settings import Settings
from tests import factories
from tests.support.mail import Mailbox
from tests.support.outbox import OutboxWorker

BASE_URL = "https://portal.example.com"


@dataclass(frozen=True)
class World:
    """Ids of rows that emails are about: Alice owns Acme and has invited new@example.com."""

    alice: str
    org: str
    invite: str
    invite_token: str


@pytest.fixture
def mail_worker(database: Database, settings: Settings, smtp: Mailbox) -> OutboxWorker:
    """Return a mail worker that sends to `smtp`."""
    mail_settings = replace(settings.mail, sender="Flotilla <fleet@portal.example.com>")
    mail_worker = OutboxWorker(database, replace(settings, base_url=BASE_URL, mail=mail_settings))
    mail_worker.use_server(smtp)
    return mail_worker


@pytest.fixture
def world(database: Database) -> World:
    """Add Alice, Acme and an invite."""
    with database.transaction() as session:
        alice = factories.user(session, "alice")
        org = factories.org(session, alice, "acme")
        invite = factories.invite(session, org, alice, role=MembershipRole.ADMIN)
        token = factories.add(session, InviteToken(invite_id=invite.id, delivery=TokenDelivery.MAILED))
        return World(alice.id, org.id, invite.id, token.id)


def add_token(
    database: Database, purpose: TokenPurpose, address: str = "new@example.com", user_id: str | None = None
) -> str:
    """Add a one-time token for an emailed link and return its id."""
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


def send_every_account_and_team_email(mail_worker: OutboxWorker, world: World) -> None:
    """Send one email of each template about accounts and teams. The organization is being deleted afterwards."""
    database = mail_worker.database
    with database.transaction() as session:
        org = session.get_one(Org, world.org)
        org.transfer_to, org.transfer_expires_at = world.alice, utcnow() + timedelta(hours=72)
    team = {"org_id": world.org, "user_id": world.alice}
    mail_worker.queue("signup", token_id=add_token(database, TokenPurpose.SIGNUP))
    mail_worker.queue("reset", token_id=add_token(database, TokenPurpose.RESET))
    mail_worker.queue("change_email", token_id=add_token(database, TokenPurpose.CHANGE_EMAIL, user_id=world.alice))
    mail_worker.queue("email_changed", user_id=world.alice)
    mail_worker.queue("password_changed", user_id=world.alice)
    mail_worker.queue("invite", invite_token_id=world.invite_token)
    mail_worker.queue("invite_reminder", invite_token_id=world.invite_token)
    mail_worker.queue("invite_proof", invite_token_id=world.invite_token)
    mail_worker.queue("member_removed", **team)
    mail_worker.queue("ownership_offered", **team)
    mail_worker.queue("ownership_offer_sent", target_id=world.alice, **team)
    mail_worker.queue("ownership_transferred", target_id=world.alice, **team)
    mail_worker.send_due()
    with database.transaction() as session:
        org = session.get_one(Org, world.org)
        org.state, org.delete_after = OrgState.DELETING, utcnow() + timedelta(days=7)
    mail_worker.queue("org_deletion", **team)
    mail_worker.send_due()
