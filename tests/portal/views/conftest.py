"""Fixtures that send mails and invites. Used by the tests of pages."""

from dataclasses import replace

import pytest
from flask import Flask

from portal.database import Database
from portal.settings import Settings
from tests.portal.views.inviting import Inviting
from tests.support.cast import Cast, SignedIn
from tests.support.mail import Mailbox
from tests.support.outbox import MailDelivery, OutboxWorker


@pytest.fixture
def mailer(database: Database, settings: Settings, smtp: Mailbox) -> MailDelivery:
    """Send due mails as a worker does, through a real mail server."""
    mail_worker = OutboxWorker(database, replace(settings, base_url="http://localhost"))
    mail_worker.use_server(smtp)
    return MailDelivery(mail_worker, smtp)


@pytest.fixture
def inviting(app: Flask, database: Database, cast: Cast, mailer: MailDelivery, signed_in: SignedIn) -> Inviting:
    """Return helpers for Acme's invites."""
    return Inviting(app, database, cast, mailer, signed_in)
