"""Recording the results of member calls while memberships change."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Bot,
    BotSync,
    Membership,
    MembershipRole,
    MemberSync,
    Org,
    Provisioning,
    SyncRole,
    SyncState,
    utcnow,
)
from portal.services.orgs import member_sync
from portal.services.syncs import claims, member_calls
from portal.services.syncs.claims import Claim, ClaimLost
from portal.services.syncs.member_calls import MemberCall
from tests import factories

DURATION = timedelta(minutes=1)


@pytest.fixture
def bot_id(database: Database) -> str:
    """The id of a provisioned bot with one member, the owner, whose role is not sent yet."""
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        values = {"address": "127.0.0.1:1", "company_id": "c", "provision_secret": {"current": "s", "next": None}}
        bot = factories.bot(session, org, factories.node(session), **values)
        sync = session.get_one(BotSync, bot.id)
        sync.provisioning, sync.provisioned_epoch = Provisioning.MANAGED, 1
        member_sync.set_desired_roles_for_bot(session, bot, utcnow())
        return bot.id


def begin_call(database: Database, bot_id: str) -> tuple[Claim, MemberCall]:
    """Claim the bot and build the next call."""
    with database.transaction() as session:
        claim = claims.claim_bot(session, bot_id, DURATION)
        assert claim is not None
        call = member_calls.next_call(session, claim, utcnow())
        assert call is not None
        return claim, call


def load_row(database: Database) -> MemberSync:
    with database.reading() as session:
        return session.scalars(sa.select(MemberSync)).one()


def test_a_success_is_recorded_with_the_epoch_before_the_call(database: Database, bot_id: str) -> None:
    claim, call = begin_call(database, bot_id)
    with database.transaction() as session:
        session.get_one(Bot, bot_id).epoch = 2
        member_calls.record_success(session, claim, call)
    row = load_row(database)
    assert (row.state, row.observed_role, row.observed_epoch) == (SyncState.SYNCED, SyncRole.OWNER, 1)
    with database.transaction() as session:
        # Members wait for the provisioning in the new epoch.
        assert member_calls.next_call(session, claim, utcnow()) is None
        session.get_one(BotSync, bot_id).provisioned_epoch = 2
        session.flush()
        again = member_calls.next_call(session, claim, utcnow())
    assert again is not None
    assert again.endpoint.epoch == 2
    assert again.idempotency_key != call.idempotency_key


def test_a_change_that_is_being_committed_is_not_hidden(
    database: Database, bot_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker records its success between the read and the write of a membership change."""
    claim, call = begin_call(database, bot_id)
    request = member_sync._request_sync

    def record() -> None:
        with database.transaction() as session:
            member_calls.record_success(session, claim, call)

    worker = threading.Thread(target=record)

    def let_the_worker_record(row: MemberSync, role: SyncRole, now: datetime) -> None:
        worker.start()
        worker.join(0.3)
        request(row, role, now)

    monkeypatch.setattr(member_sync, "_request_sync", let_the_worker_record)
    with database.transaction() as session:
        org = session.scalars(sa.select(Org)).one()
        membership = session.scalars(sa.select(Membership)).one()
        membership.role = MembershipRole.ADMIN
        member_sync.set_desired_role(session, org, membership, utcnow())
    worker.join()
    row = load_row(database)
    assert (row.state, row.desired_version) == (SyncState.PENDING, 2)


def test_a_suspended_worker_records_nothing(database: Database, bot_id: str) -> None:
    claim, call = begin_call(database, bot_id)
    with database.transaction() as session:
        assert claims.claim_bot(session, bot_id, DURATION) is None
        session.get_one(BotSync, bot_id).claimed_until = utcnow() - DURATION
    with database.transaction() as session:
        assert claims.claim_bot(session, bot_id, DURATION) is not None
    with database.transaction() as session, pytest.raises(ClaimLost):
        member_calls.record_success(session, claim, call)
    assert load_row(database).state is SyncState.PENDING
    with database.transaction() as session:
        claims.release(session, claim)
    with database.reading() as session:
        assert session.get_one(BotSync, bot_id).claimed_until is not None
