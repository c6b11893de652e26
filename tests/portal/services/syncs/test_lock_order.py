"""Worker, probe and people who change the sync of one bot at the same time lock rows in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import Bot, BotState, BotSync, MemberSync, Provisioning, utcnow
from portal.services.bots import observations
from portal.services.bots.observations import Observation
from portal.services.errors import ConflictError
from portal.services.orgs import member_sync
from portal.services.syncs import claims, company_calls, operations, provision_secrets, provisioning
from portal.services.syncs.failures import Failure, FailureKind
from tests import factories

ROUNDS = 30
REFUSED = Failure(FailureKind.REFUSED, "refused", 422)

Change = Callable[[Session, Bot], None]


def record(session: Session, bot: Bot) -> None:
    """Record a call as a worker does, and the end of a rotation."""
    claims.lock_bot(session, bot.id)
    claim = claims.claim_bot(session, bot.id, timedelta(minutes=1))
    assert claim is not None
    company_calls.record_failure(session, claim, REFUSED, utcnow())
    session.execute(sa.update(MemberSync).where(MemberSync.bot_id == bot.id).values(attempts=1))
    provision_secrets.record_accepted(session, bot.id, "unknown")
    claims.release(session, claim)


def probe(session: Session, bot: Bot) -> None:
    """Record that the bot was not healthy and is healthy now, as a probe does."""
    for state in (BotState.UNHEALTHY, BotState.RUNNING):
        observed = Observation(bot.id, str(bot.container_id), state, None, bot.address)
        observations.record_observations(session, bot.node_id, [observed], utcnow())


def retry(session: Session, bot: Bot) -> None:
    """Retry the call about one person, then all."""
    operations.retry(session, session.scalars(sa.select(MemberSync).where(MemberSync.bot_id == bot.id)).one())
    operations.retry_bot(session, bot)


def resync(session: Session, bot: Bot) -> None:
    """Send everything again."""
    operations.resync_bot(session, bot, utcnow(), actor=None)


def connect(session: Session, bot: Bot) -> None:
    """Connect the bot again."""
    provisioning.provision_bot(session, bot, "secret" * 4, now=utcnow(), actor=None)


@pytest.mark.slow
def test_changes_never_wait_for_each_other_in_a_circle(database: Database) -> None:
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        bot = factories.bot(session, org, factories.node(session), address="127.0.0.1:1", container_id="c" * 64)
        session.get_one(BotSync, bot.id).provisioning = Provisioning.MANAGED
        member_sync.set_desired_roles_for_bot(session, bot, utcnow())
        bot_id = bot.id
    errors: list[Exception] = []

    def repeat(change: Change) -> None:
        for _ in range(ROUNDS):
            try:
                with suppress(ConflictError), database.transaction() as session:
                    change(session, session.get_one(Bot, bot_id))
            except Exception as error:  # noqa: BLE001 - such as a deadlock
                errors.append(error)

    people = [threading.Thread(target=repeat, args=(change,)) for change in (record, probe, retry, resync, connect)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert errors == []
