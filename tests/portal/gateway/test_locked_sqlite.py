"""Another program has locked the SQLite file: nothing is decided from memory, and the gateway heals."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.gateway import limits
from tests.portal.gateway.outages import check_outage, read_status
from tests.support.cast import Cast
from tests.support.gateway import Browser, FakeBot, RunningGateway, sign_in
from tests.support.scene import Scene

pytestmark = [pytest.mark.requests, pytest.mark.slow]

_LOCK_EVERYTHING = """
import fcntl, sys
with open(sys.argv[1] + "-shm", "r+b") as memory:
    fcntl.lockf(memory, fcntl.LOCK_EX, 8, 120)  # the locks of the writer and of all readers
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def only_sqlite(database: Database) -> None:
    """Skip the tests for other databases."""
    if database.engine.dialect.name != "sqlite":
        pytest.skip("this is about SQLite")


@pytest.fixture
def carol(gateway: RunningGateway, database: Database, cast: Cast, scene: Scene) -> Browser:
    """Return Carol's browser at the first bot."""
    return sign_in(gateway, database, cast.people["carol"], scene.bots[0])


@contextmanager
def locked_exclusively(database: Database) -> Iterator[None]:
    """Let another process hold all locks of the file for the duration of a `with` block."""
    command = [sys.executable, "-c", _LOCK_EVERYTHING, str(database.engine.url.database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            process.communicate()


def test_a_file_that_is_locked_exclusively(bob: Browser, carol: Browser, bot: FakeBot, database: Database) -> None:
    check_outage(bob, carol, bot, locked_exclusively(database))


def test_a_long_transaction_of_another_program_only_delays_sign_ins(
    bob: Browser, carol: Browser, bot: FakeBot, database: Database
) -> None:
    state = {"Cookie": f"flotilla-gateway-state={'x' * 43}"}
    with ThreadPoolExecutor(2 * limits.DATABASE_THREADS) as threads:
        with database.transaction() as session:
            session.execute(sa.text("SELECT 1"))  # takes the lock of the writer
            entering = [
                threads.submit(bob.read, "/_gateway/enter?ticket=x", headers=state)
                for _ in range(2 * limits.DATABASE_THREADS)
            ]
            began = time.monotonic()
            while time.monotonic() - began < 2 * limits.DECISION_SECONDS:
                assert read_status(bob) == read_status(carol) == 200
                time.sleep(0.05)
            assert {answer.result()[0] for answer in entering} == {503}
        assert bob.read("/_gateway/enter?ticket=x", headers=state)[0] != 503
