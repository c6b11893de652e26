"""Worker, probe and people who change the sync of one bot at the same time lock rows in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import Bot, BotState, BotSync, MemberSync, Provisioning, User, utcnow
from portal.services.account_changes import disabling, profile
from portal.services.bots import observations
from portal.services.bots.observations import Observation
from portal.services.errors import ConflictError
from portal.services.orgs import member_sync, transfers
from portal.services.syncs import claims, company_calls, operations, provision_secrets, provisioning
from portal.services.syncs.company_calls import ProvisionCall
from portal.services.syncs.endpoints import Endpoint
from portal.services.syncs.failures import Failure, FailureKind
from tests import factories
from tests.daemon.processes import wait_until
from tests.support import sync_rows

ROUNDS = 30
USER = "bob-of-all-bots"
_WAITING = "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
"""Processes that wait for a lock of this one."""
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


def provision(session: Session, bot: Bot) -> None:
    """Record that the bot has another company than before."""
    claim = claims.claim_bot(session, bot.id, timedelta(minutes=1))
    assert claim is not None
    call = ProvisionCall(Endpoint("127.0.0.1:1", [], None, 1), {}, 0)
    company_calls.record_provisioned(session, claim, call, "another", utcnow())


def transfer(session: Session, bot: Bot) -> None:
    """Transfer the organization to the other member."""
    owner, other = bot.org.owner, session.scalars(sa.select(User).where(User.id != bot.org.owner_id)).one()
    transfers.offer_ownership(session, bot.org, other.id, actor=owner, now=utcnow())
    transfers.accept_ownership(session, bot.org, actor=other, now=utcnow())


def retry_all(session: Session, bot: Bot) -> None:
    """Retry all calls to all bots."""
    operations.retry_all(session)


def probe_all(session: Session, bot: Bot) -> None:
    """Record that all bots are healthy now, in an order that no one has chosen."""
    bots = session.scalars(sa.select(Bot).order_by(Bot.id.desc())).all()
    observed = [Observation(row.id, str(row.container_id), BotState.RUNNING, None, row.address) for row in bots]
    observations.record_observations(session, bot.node_id, observed, utcnow())


def rename(session: Session, _bot: Bot) -> None:
    """Rename the user who is in all bots."""
    profile.rename_user(session, USER, "Robert", utcnow())


def disable(session: Session, _bot: Bot) -> None:
    """Disable the user who is in all bots."""
    disabling.disable_account(session, USER, utcnow(), actor=None)


@pytest.fixture
def two_bots(database: Database) -> None:
    """Bots "a" and "b" of two organizations with one owner and one more member, after failed calls to each of them.

    By bot and id, the rows of the members are "a2" and "a3" in one bot and "b1" in the other. The rows are stored,
    and the organizations are locked, in another order.
    """
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer and locks no rows")
    failed: dict[str, Any] = {"attempts": 1, "next_attempt_at": utcnow(), "last_error": "refused"}
    with database.transaction() as session:
        owner, other, node = factories.user(session), factories.user(session, "bob", id=USER), factories.node(session)
        for bot_id, org_id in (("b", "org-1"), ("a", "org-2")):
            org = factories.org(session, owner, org_id, id=org_id)
            factories.membership(session, org, other)
            bot = factories.bot(session, org, node, id=bot_id, container_id=bot_id * 64, state=BotState.UNHEALTHY)
            bot.provision_secret = {"current": "secret" * 4, "next": None}
            sync_rows.connect(session, bot, next_attempt_at=utcnow() if bot_id == "b" else None)
        for row_id, user in (("a3", owner), ("b1", other), ("a2", other)):
            sync_rows.pending(session, session.get_one(Bot, row_id[0]), user.id, id=row_id, **failed)


def require_order(database: Database, first: sa.Select[Any], second: sa.Select[Any], change: Change) -> None:
    """Let a change of bot "a" wait for the lock of the first row, and require that the second one is still free."""

    def run() -> None:
        with database.transaction() as session:
            change(session, session.get_one(Bot, "a"))

    def is_waiting() -> bool:
        return session.execute(sa.text(_WAITING)).first() is not None

    with ThreadPoolExecutor() as pool:
        with database.transaction() as session:
            session.execute(first.with_for_update())
            changing = pool.submit(run)
            wait_until(is_waiting, "the change waits for the first row", seconds=10)
            session.execute(second.with_for_update(nowait=True))
        changing.result()


@pytest.mark.slow
@pytest.mark.usefixtures("two_bots")
@pytest.mark.parametrize("change", [probe, resync, connect, provision, retry_all, transfer])
def test_members_of_a_bot_are_locked_by_id(database: Database, change: Change) -> None:
    first, second = (sa.select(MemberSync.id).where(MemberSync.id == id_) for id_ in ("a2", "a3"))
    require_order(database, first, second, change)


@pytest.mark.slow
@pytest.mark.usefixtures("two_bots")
@pytest.mark.parametrize("change", [rename, disable, retry_all])
def test_members_of_several_bots_are_locked_by_bot(database: Database, change: Change) -> None:
    first, second = (sa.select(MemberSync.id).where(MemberSync.id == id_) for id_ in ("a2", "b1"))
    require_order(database, first, second, change)


@pytest.mark.slow
@pytest.mark.usefixtures("two_bots")
@pytest.mark.parametrize("change", [probe_all, retry_all])
def test_syncs_are_locked_by_bot(database: Database, change: Change) -> None:
    first, second = (sa.select(BotSync.bot_id).where(BotSync.bot_id == id_) for id_ in "ab")
    require_order(database, first, second, change)


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
