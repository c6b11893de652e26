"""Simultaneous requests about one bot and its organization lock rows in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import Bot, Org, utcnow
from portal.rules.allowlist import Allowlist
from portal.services.bots import creation, removal, start_stop
from portal.services.bots.start_stop import Operation
from portal.services.errors import ConflictError
from tests import factories

ALLOWLIST = Allowlist.parse(["registry.example"])
ROUNDS = 20


def create(session: Session, org: Org, _bot: Bot) -> None:
    """Request another bot."""
    creation.create_bot(session, ALLOWLIST, org, now=utcnow())


def retry(session: Session, _org: Org, bot: Bot) -> None:
    """Try again to create the bot."""
    creation.retry_creation(session, ALLOWLIST, bot, now=utcnow(), actor=None)


def stop(session: Session, _org: Org, bot: Bot) -> None:
    """Stop the bot."""
    start_stop.request(session, bot, Operation.STOP, now=utcnow(), actor=None)


def remove(session: Session, _org: Org, bot: Bot) -> None:
    """Remove the bot."""
    removal.request_removal(session, bot, keep_data=True, now=utcnow(), actor=None)


def restore(session: Session, _org: Org, bot: Bot) -> None:
    """Restore the bot."""
    removal.restore_bot(session, bot, now=utcnow(), actor=None)


@pytest.mark.slow
def test_simultaneous_requests_never_wait_for_each_other_in_a_circle(database: Database) -> None:
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        factories.node(session)
        factories.bot_template(session)
        org_id, bot_id = org.id, creation.create_bot(session, ALLOWLIST, org, now=utcnow()).id
    errors: list[Exception] = []

    def repeat(request: Callable[[Session, Org, Bot], None]) -> None:
        for _ in range(ROUNDS):
            try:
                with suppress(ConflictError), database.transaction() as session:
                    request(session, session.get_one(Org, org_id), session.get_one(Bot, bot_id))
            except Exception as error:  # noqa: BLE001 - such as a deadlock
                errors.append(error)

    people = [threading.Thread(target=repeat, args=(request,)) for request in (create, retry, stop, remove, restore)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert errors == []
