"""Of two processes that want one bot exactly one works on it, and one that lost it can change nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from daemon import bot_lease
from daemon.bot_lease import BotLease
from portal.database import Database, database_now
from portal.models import Bot, Node, Org, User
from portal.services.bots import leases
from portal.services.bots.leases import LEASE_DURATION, BotBusy, LeaseLost
from portal.settings import Settings


@pytest.fixture
def bot_id(database: Database) -> str:
    """A bot that nobody holds."""
    with database.transaction() as session:
        owner = User(email="alice@example.com", email_normalized="alice@example.com", name="Alice")
        node = Node(name="one", docker_url="unix:///nowhere", snapshot_dir="/nowhere")
        session.add_all([owner, node])
        session.flush()
        org = Org(slug="acme", name="Acme", owner_id=owner.id)
        session.add(org)
        session.flush()
        bot = Bot(org_id=org.id, node_id=node.id, name="bot", subdomain="bot", image="ghcr.io/acme/bot:stable")
        session.add(bot)
        session.flush()
        return bot.id


def expire(database: Database) -> None:
    """Let a lease's time pass."""
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(lease_until=database_now(session)))


def rename(lease: BotLease, bot_id: str, name: str) -> None:
    """Change something as the holder."""
    with lease.transaction() as session:
        session.get_one(Bot, bot_id).name = name


def test_one_holder_at_a_time(database: Database, bot_id: str) -> None:
    with BotLease(database, bot_id), pytest.raises(BotBusy), BotLease(database, bot_id):
        pass
    with BotLease(database, bot_id):
        pass


def test_of_many_that_ask_at_once_one_gets_it(database: Database, bot_id: str) -> None:
    start, won, lost = threading.Barrier(8), [], []

    def ask() -> None:
        start.wait()
        try:
            with database.transaction() as session:
                won.append(leases.acquire(session, bot_id, "one of many"))
        except BotBusy as busy:
            lost.append(busy)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (won, len(lost)) == ([1], 7)


def test_each_holder_has_a_higher_fence(database: Database, bot_id: str) -> None:
    fences = []
    for _ in range(3):
        with database.transaction() as session:
            fences.append(leases.acquire(session, bot_id, "somebody"))
        expire(database)
    assert fences == [1, 2, 3]


def test_a_holder_that_was_replaced_can_write_nothing(database: Database, bot_id: str) -> None:
    with BotLease(database, bot_id) as slow:
        expire(database)
        with BotLease(database, bot_id) as quick:
            with pytest.raises(LeaseLost):
                rename(slow, bot_id, "written by the slow one")
            with pytest.raises(LeaseLost):
                slow.renew_or_raise(1)
            rename(quick, bot_id, "written by the quick one")
            # Giving back what is no longer one's own takes it from nobody.
            slow.__exit__(None, None, None)
            quick.renew_or_raise(1)
    with database.reading() as session:
        assert session.get_one(Bot, bot_id).name == "written by the quick one"


def test_a_lease_that_ran_out_is_lost_though_nobody_took_it(database: Database, bot_id: str) -> None:
    with BotLease(database, bot_id) as lease:
        lease.renew_or_raise()
        expire(database)
        with pytest.raises(LeaseLost):
            lease.renew_or_raise()


def test_a_call_longer_than_the_lease_is_a_mistake(database: Database, bot_id: str) -> None:
    with BotLease(database, bot_id) as lease, pytest.raises(ValueError, match="detached"):
        lease.renew_or_raise(LEASE_DURATION.total_seconds())


def test_the_lease_is_kept_alive(database: Database, bot_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot_lease, "RENEWED_EVERY", timedelta(seconds=0.02))
    with BotLease(database, bot_id):
        first = lease_until(database, bot_id)
        for _ in range(500):
            if lease_until(database, bot_id) > first:
                break
            threading.Event().wait(0.01)
        else:
            raise AssertionError("nobody renewed the lease")


def test_a_process_whose_lease_was_taken_over_ends_at_once(settings: Settings, bot_id: str) -> None:
    program = f"""
import datetime, time
import sqlalchemy as sa
from daemon import bot_lease
from portal.database import Database
from portal.models import Bot
bot_lease.RENEWED_EVERY = datetime.timedelta(seconds=0.05)
database = Database({settings.database_url!r})
with bot_lease.BotLease(database, {bot_id!r}):
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(fence=Bot.fence + 1))
    time.sleep(60)
    print("went on")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 70
    assert "went on" not in ended.stdout
    assert "was taken over" in ended.stderr


def lease_until(database: Database, bot_id: str) -> float:
    """When the lease ends, in seconds."""
    with database.reading() as session:
        until = session.get_one(Bot, bot_id).lease_until
    assert until is not None
    return until.timestamp()
