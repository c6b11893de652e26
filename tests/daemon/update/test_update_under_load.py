"""Real updates while people use the bot through two gateways: requests wait, none fails, and sockets reconnect."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.update.sequence import update_bot
from demo.bench.gateway.fronts import is_answering
from demo.bench.gateway.load import Load, constant_load
from demo.bench.gateway.load_generator import Report
from demo.bench.gateway.visitors import Visitor, sign_in
from demo.processes import free_port
from demo.versions import SECOND, THIRD, UNHEALTHY, BotVersion
from portal.models import Bot, GatewayProcess, Step
from tests.daemon.processes import Process, running, wait_until
from tests.daemon.update.test_recovery import entered, kill_worker_when
from tests.support.site import NOTE, Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.processes, pytest.mark.slow]

RATE = 50
SOCKETS = 10
VISITORS = 10
IN_FLIGHT_ERRORS = {"ServerDisconnectedError", "ClientOSError", "ClientConnectionResetError"}
"""What clients see whose connection was open when its gateway was killed."""


@dataclass
class Gateways:
    """Two gateway processes that share a port, and people who are signed in at the bot's host."""

    port: int
    visitors: Sequence[Visitor]
    processes: list[Process]

    def load(self) -> AbstractContextManager[Load]:
        """Send requests and keep sockets open for the duration of a `with` block."""
        return constant_load(self.port, self.visitors, rate=RATE, sockets=SOCKETS)


@pytest.fixture
def gateways(site: Site, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gateways]:
    """Return running gateways."""
    port = free_port()
    domain = f"localhost:{port}"
    for name, value in {"REDIS_URL": redis_url, "BOTS_DOMAIN": domain, "GATEWAY_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    visitors = sign_visitors_in(site, domain)
    with ExitStack() as stack:
        started = [
            stack.enter_context(running("daemon.cli", "gateway", log=tmp_path / f"gateway-{number}.log"))
            for number in (1, 2)
        ]
        wait_until(lambda: is_answering(port, visitors[0]) and count_gateways(site) == 2, "both gateways run")
        yield Gateways(port, visitors, started)


def count_gateways(site: Site) -> int:
    """Return how many gateways have started."""
    with site.database.reading() as session:
        return len(session.scalars(sa.select(GatewayProcess.id)).all())


def sign_visitors_in(site: Site, domain: str) -> list[Visitor]:
    """Sign people in at the host of the bot. One person alone would exceed the limit of requests per person."""
    with site.database.transaction() as session:
        bot = session.get_one(Bot, site.bot_id)
        bot.address = site.address().removeprefix("http://")
        return [sign_in(session, bot, domain, number) for number in range(VISITORS)]


def check_nothing_was_lost(site: Site, report: Report) -> None:
    """Check that all requests succeeded, the bot has all notes once, and sockets were opened again."""
    assert report.failed == {}
    assert len(site.notes()) == report.notes + len([NOTE])
    assert report.notes > 0
    assert report.sockets_failed == {}
    assert report.sockets > SOCKETS


@pytest.mark.parametrize("versions", [[SECOND, THIRD], [UNHEALTHY]], ids=["good", "rolled back"])
def test_no_request_fails_during_updates(site: Site, gateways: Gateways, versions: Sequence[BotVersion]) -> None:
    settings = site.with_settings(health_check_timeout=timedelta(seconds=3))
    with gateways.load() as load:
        time.sleep(0.5)
        for version in versions:
            update_bot(site.database, settings, site.update_to(version))
            time.sleep(0.5)
    check_nothing_was_lost(site, load.report)


def test_no_request_fails_when_the_worker_is_killed_during_the_downtime(site: Site, gateways: Gateways) -> None:
    update_id = site.update_to(SECOND)
    with gateways.load() as load:
        kill_worker_when(site, update_id, entered(Step.HEALTH))
        update_bot(site.database, site.settings, update_id)
        time.sleep(0.5)
    check_nothing_was_lost(site, load.report)


def test_a_killed_gateway_only_loses_what_it_was_working_on(site: Site, gateways: Gateways) -> None:
    update_id = site.update_to(SECOND)
    with gateways.load() as load:
        worker = threading.Thread(target=update_bot, args=(site.database, site.settings, update_id))
        worker.start()
        while site.update(update_id).step is not Step.SNAPSHOT:
            assert worker.is_alive()
            time.sleep(0.02)
        gateways.processes[0].kill()
        worker.join()
        time.sleep(0.5)
    assert load.report.failed.keys() <= IN_FLIGHT_ERRORS
    assert load.report.failed.total() < load.report.requests / 2
    stored = len(site.notes()) - len([NOTE])
    assert load.report.notes <= stored
    with gateways.load() as afterwards:
        time.sleep(1)
    assert afterwards.report.failed == {}
