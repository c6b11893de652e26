"""Updates and gateways: a bot is stopped when no gateway forwards requests to it any more."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from daemon.update import steps
from daemon.update.sequence import update_bot
from demo.versions import SECOND
from portal.database import Database
from portal.models import Step, UpdateState
from portal.services.gateway import processes
from tests.daemon.update.test_recovery import entered, kill_worker_when
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]


class FakeGateway:
    """A gateway process that a test controls."""

    def __init__(self, database: Database) -> None:
        """Record that the process is alive."""
        self._database = database
        with database.transaction() as session:
            processes.record_held(session, "gateway", {})

    def record(self, update_id: str, running: int) -> None:
        """Record how many requests still run."""
        with self._database.transaction() as session:
            processes.record_held(session, "gateway", {update_id: running})


@pytest.fixture
def gateway(site: Site, monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    """Return a gateway process, which counts as alive although a busy machine prepares the update slowly."""
    monkeypatch.setattr(processes, "ALIVE", timedelta(minutes=10))
    return FakeGateway(site.database)


def test_the_bot_runs_until_the_last_request_has_ended(
    site: Site, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "DRAIN_SECONDS", 60.0)  # longer than this test takes on a busy machine
    update_id = site.update_to(SECOND)
    worker = threading.Thread(target=update_bot, args=(site.database, site.settings, update_id))
    worker.start()
    while site.update(update_id).step is not Step.DRAIN:
        assert worker.is_alive()
        time.sleep(0.05)
    with site.database.reading() as session:
        assert processes.list_updates_out_of_service(session) == {update_id: site.bot_id}
    for running in (3, 1):
        gateway.record(update_id, running)
        time.sleep(0.5)
        assert site.update(update_id).step is Step.DRAIN
        assert site.inspect()["State"]["Running"]
    gateway.record(update_id, 0)
    worker.join()
    update = site.update(update_id)
    assert update.state is UpdateState.UPDATED
    assert update.stopped_at is not None
    with site.database.reading() as session:
        assert processes.list_updates_out_of_service(session) == {}


def test_a_request_that_never_ends_delays_the_update_for_a_limited_time(
    site: Site, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "DRAIN_SECONDS", 0.5)
    update_id = site.update_to(SECOND)
    gateway.record(update_id, 1)
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).state is UpdateState.UPDATED


def test_a_worker_that_dies_while_it_waits_has_changed_nothing(site: Site, gateway: FakeGateway) -> None:
    update_id = site.update_to(SECOND)
    kill_worker_when(site, update_id, entered(Step.DRAIN))
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).state is UpdateState.PENDING
    assert site.inspect()["Id"] == site.container
    assert site.inspect()["State"]["Running"]
    assert site.leftovers() == []
    with site.database.reading() as session:
        assert processes.list_updates_out_of_service(session) == {}
