"""The cast of the portal's tests, as `tests/views` has it, and their mail, for everything about teams."""

from dataclasses import replace

import pytest
from flask import Flask

from portal.database import Database
from portal.settings import Settings
from tests.mail.conftest import Office
from tests.support.mail import Mailbox
from tests.teams.inviting import Inviting
from tests.teams.post import Post
from tests.views.conftest import Cast, SignedIn, app, cast, scene, signed_in, stranger

__all__ = ["Cast", "Post", "SignedIn", "app", "cast", "post", "scene", "signed_in", "stranger"]


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
