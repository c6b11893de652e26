"""Mail and invites for the tests of pages."""

from dataclasses import replace

import pytest
from flask import Flask

from portal.database import Database
from portal.settings import Settings
from tests.portal.views.inviting import Inviting
from tests.support.cast import Cast, SignedIn
from tests.support.mail import Mailbox
from tests.support.outbox import Office, Post


@pytest.fixture
def post(database: Database, settings: Settings, smtp: Mailbox) -> Post:
    """The mails that a worker sends, through a real mail server."""
    office = Office(database, replace(settings, base_url="http://localhost"))
    office.serves(smtp)
    return Post(office, smtp)


@pytest.fixture
def inviting(app: Flask, database: Database, cast: Cast, post: Post, signed_in: SignedIn) -> Inviting:
    """Acme's invites, their mails, and browsers to deal with them."""
    return Inviting(app, database, cast, post, signed_in)
