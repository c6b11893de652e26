"""`flotilla gateway` as a process: listening, several processes on one port, the end, and a missing domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from demo.processes import free_port
from portal.database import Database
from portal.models import GatewayProcess
from portal.settings import Settings
from tests.daemon.processes import Process, end, running, wait_until

pytestmark = pytest.mark.processes

Logged = Callable[[str], bool]


@pytest.fixture
def port(settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the port of the gateway, which is set in the environment with the domain of its bots."""
    found = free_port()
    values = {"REDIS_URL": redis_url, "GATEWAY_PORT": str(found), "BOTS_DOMAIN": f"localhost:{found}"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return found


@contextmanager
def gateway(log: Path) -> Iterator[tuple[Process, Logged]]:
    """Run a gateway until it has begun to work. Yield it with a function that searches its log."""
    with running("daemon.cli", "gateway", log=log) as process:

        def has_logged(text: str) -> bool:
            return text in log.read_text()

        wait_until(lambda: has_logged("portal.gateway.server: "), "the gateway has started")
        yield process, has_logged


def count_processes(database: Database) -> int:
    """Return the number of gateways for which updates wait."""
    with database.reading() as session:
        return session.query(GatewayProcess).count()


def is_healthy(port: int) -> bool:
    """Return whether a gateway answers on a new connection."""
    return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).text == '{"status": "ok"}'


def test_two_gateways_share_a_port_and_each_ends_without_a_trace(
    port: int, database: Database, tmp_path: Path
) -> None:
    with gateway(tmp_path / "one") as (one, _), gateway(tmp_path / "two") as (two, has_logged):
        assert count_processes(database) == 2
        assert all(is_healthy(port) for _ in range(20))
        assert end(one) == 0
        assert count_processes(database) == 1
        assert all(is_healthy(port) for _ in range(20))
        wait_until(lambda: has_logged("GET healthz bot=- user=- 200 "), "the requests are logged")
        assert end(two) == 0
        assert count_processes(database) == 0


def test_without_a_domain_the_process_only_waits(
    port: int, monkeypatch: pytest.MonkeyPatch, database: Database, tmp_path: Path
) -> None:
    monkeypatch.delenv("BOTS_DOMAIN")
    with gateway(tmp_path / "log") as (process, has_logged):
        assert has_logged("BOTS_DOMAIN is not set")
        with pytest.raises(requests.ConnectionError):
            is_healthy(port)
        assert count_processes(database) == 0
        assert end(process) == 0
