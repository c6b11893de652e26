"""Reading the resource use of bots from a real engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import pytest
from redis import Redis

from daemon.bots import resource_use
from portal import live_readings
from portal.database import Database
from portal.live_readings import Reading
from tests import factories

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def reading(cpu_seconds: float, seconds_ago: float = 0, started: str = "first") -> dict[str, Any]:
    """Return a reading."""
    return {"cpu_seconds": cpu_seconds, "started": started, "at": NOW - timedelta(seconds=seconds_ago)}


def test_share_of_a_cpu_follows_from_two_readings_of_one_start() -> None:
    assert resource_use.measure_cpus(reading(10, 5), reading(15), NOW) == 1
    assert resource_use.measure_cpus(None, reading(15), NOW) is None
    assert resource_use.measure_cpus(reading(10, 5), reading(15, started="second"), NOW) is None
    assert resource_use.measure_cpus(reading(10), reading(15), NOW) is None
    assert resource_use.measure_cpus(reading(10, -5), reading(15), NOW) is None, "a clock that was set back"
    assert resource_use.measure_cpus({"error": "x", "at": NOW}, reading(15), NOW) is None
    assert resource_use.measure_cpus(reading(10, 5), {"error": "x"}, NOW) is None


@pytest.mark.docker
def test_cpu_and_memory_of_a_bot_are_read(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient,
    snapshot_image: str,
    run_labels: dict[str, str],
    database: Database,
    docker_url: str,
    redis_url: str,
) -> None:
    host = engine.create_host_config(mem_limit="64m")
    busy = ["sh", "-c", "while :; do :; done"]
    container = engine.create_container(snapshot_image, busy, labels=run_labels, host_config=host)["Id"]
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        node = factories.node(session, docker_url=docker_url)
        bot_id = factories.bot(session, org, node, container_id=container).id
    with Redis.from_url(redis_url) as redis:

        def read() -> dict[str, Any]:
            resource_use.read_for_page(database, redis, bot_id)
            return live_readings.load(redis, Reading.RESOURCE_USE, bot_id) or {}

        try:
            assert read()["error"] == "The bot does not run"
            engine.start(container)
            first, second = read(), read()
        finally:
            engine.remove_container(container, force=True)
        assert (first["error"], first["cpus"], first["memory_limit"]) == (None, None, 64 * 1024 * 1024)
        assert second["cpus"] is not None
        assert second["cpu_seconds"] >= first["cpu_seconds"] > 0
        assert 0 < second["memory"] < 64 * 1024 * 1024
        assert read()["error"] == "The bot does not run"
