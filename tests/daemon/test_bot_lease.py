"""Leases on bots: one holder at a time, and a former holder can write nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon import bot_lease
from daemon.bot_lease import BotLease
from portal.database import Database, database_now
from portal.models import Bot, Org, update_where
from portal.services.bots import leases
from portal.services.bots.leases import LEASE_DURATION, BotBusy, LeaseLost
from portal.settings import Settings
from tests import factories
from tests.support.statements import counted_statements


@pytest.fixture
def bot_id(database: Database) -> str:
    """Id of a bot whose lease is free."""
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        return factories.bot(session, org, factories.node(session)).id


def expire(database: Database) -> None:
    """Let every lease expire."""
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(lease_until=database_now(session)))


def rename(lease: BotLease, bot_id: str, name: str) -> None:
    """Change the bot as the holder of the lease."""
    with lease.transaction() as session:
        session.get_one(Bot, bot_id).name = name


@pytest.fixture
def always_checking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no check of a fence count for a later effect."""
    monkeypatch.setattr(bot_lease, "_CERTAIN_SECONDS", 0)


def test_lease_has_one_holder_at_a_time(database: Database, bot_id: str) -> None:
    with BotLease(database, bot_id), pytest.raises(BotBusy), BotLease(database, bot_id):
        pass
    with BotLease(database, bot_id):
        pass


def test_one_of_several_simultaneous_requests_gets_the_lease(database: Database, bot_id: str) -> None:
    start, won, lost = threading.Barrier(8), [], []

    def acquire() -> None:
        start.wait()
        try:
            with database.transaction() as session:
                won.append(leases.acquire(session, bot_id, "one of several"))
        except BotBusy as busy:
            lost.append(busy)

    threads = [threading.Thread(target=acquire) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (won, len(lost)) == ([1], 7)


def test_each_holder_has_a_higher_fence(database: Database, bot_id: str) -> None:
    fences = []
    for _ in range(3):
        with database.transaction() as session:
            fences.append(leases.acquire(session, bot_id, "another process"))
        expire(database)
    assert fences == [1, 2, 3]


def rename_in_one_statement(lease: BotLease, bot_id: str, name: str) -> None:
    """Change the organization of the bot as the holder of the lease, without a statement about the bot."""
    org_id = sa.select(Bot.org_id).where(Bot.id == bot_id).scalar_subquery()

    def change(session: Session, is_held: sa.ColumnElement[bool]) -> int | None:
        return update_where(session, Org, Org.id == org_id, is_held, name=name) or None

    lease.change(change)


def test_former_holder_can_write_nothing(database: Database, bot_id: str) -> None:
    with BotLease(database, bot_id) as former:
        expire(database)
        with BotLease(database, bot_id) as current:
            with pytest.raises(LeaseLost):
                rename(former, bot_id, "written by the former holder")
            with pytest.raises(LeaseLost):
                rename_in_one_statement(former, bot_id, "written by the former holder")
            with pytest.raises(LeaseLost):
                former.renew_or_raise(1)
            rename(current, bot_id, "written by the current holder")
            rename_in_one_statement(current, bot_id, "written by the current holder")
            # A release by the former holder does not affect the current one.
            former.__exit__(None, None, None)
            current.renew_or_raise(1)
    with database.reading() as session:
        bot = session.get_one(Bot, bot_id)
        assert (bot.name, bot.org.name) == ("written by the current holder",) * 2


@pytest.mark.usefixtures("always_checking")
def test_expired_lease_is_lost_even_without_a_new_holder(database: Database, bot_id: str) -> None:
    with BotLease(database, bot_id) as lease:
        lease.renew_or_raise()
        expire(database)
        with pytest.raises(LeaseLost):
            lease.renew_or_raise()


def test_change_in_one_statement_keeps_others_from_the_lease_until_it_is_committed(
    database: Database, bot_id: str
) -> None:
    other = threading.Thread(target=expire, args=[database])

    def change(session: Session, is_held: sa.ColumnElement[bool]) -> bool:
        assert session.scalar(sa.select(sa.literal(1)).where(is_held))
        other.start()
        other.join(0.2)
        return other.is_alive()

    with BotLease(database, bot_id) as lease:
        assert lease.change(change), "the bot's row was not locked"
        other.join()


def test_one_check_serves_the_effects_of_the_next_moment(
    database: Database, bot_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(bot_lease, "_now", lambda: clock[0])

    def count_checks(lease: BotLease, *moments: float) -> int:
        """Return how many of the effects at these moments, in seconds after the acquisition, need a check."""
        with counted_statements(database.engine) as statements:
            for moment in moments:
                clock[0] = 1000.0 + moment
                lease.renew_or_raise()
        return sum(statement.startswith("UPDATE bots") for statement in statements)

    with BotLease(database, bot_id) as lease:
        assert count_checks(lease, 0.1, 0.2) == 0
        # At 3 the process has been stopped since 0.2, although it does not know that.
        assert count_checks(lease, 3, 3.2) == 1
        # The fence was checked at 13.1, but a call of 20 s would outlive the lease, which was renewed at 3.
        clock[0] = 1013.1
        rename_in_one_statement(lease, bot_id, "a name")
        assert count_checks(lease, 13.2, 13.3) == 1


def test_call_longer_than_the_lease_is_refused(database: Database, bot_id: str) -> None:
    with BotLease(database, bot_id) as lease, pytest.raises(ValueError, match="detached"):
        lease.renew_or_raise(LEASE_DURATION.total_seconds())


def test_lease_is_renewed_in_the_background(database: Database, bot_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot_lease, "RENEWAL_INTERVAL", timedelta(seconds=0.02))
    with BotLease(database, bot_id):
        first = lease_until(database, bot_id)
        for _ in range(500):
            if lease_until(database, bot_id) > first:
                break
            threading.Event().wait(0.01)
        else:
            raise AssertionError("the lease was not renewed")


def test_process_whose_lease_was_taken_over_exits_at_once(settings: Settings, bot_id: str) -> None:
    program = f"""
import datetime, time
import sqlalchemy as sa
from daemon import bot_lease
from portal.database import Database
from portal.models import Bot
bot_lease.RENEWAL_INTERVAL = datetime.timedelta(seconds=0.05)
database = Database({settings.database_url!r})
with bot_lease.BotLease(database, {bot_id!r}):
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(fence=Bot.fence + 1))
    time.sleep(60)
    print("continued")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 70
    assert "continued" not in ended.stdout
    assert "was taken over" in ended.stderr


def lease_until(database: Database, bot_id: str) -> float:
    """Return the end of the lease as a timestamp in seconds."""
    with database.reading() as session:
        until = session.get_one(Bot, bot_id).lease_until
    assert until is not None
    return until.timestamp()
