"""PostgreSQL stands still or is shut down: nothing is decided from memory, and the gateway heals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgresql import PostgresCluster, new_cluster
from portal.database import Database
from tests.portal.gateway.outages import check_outage
from tests.support import databases
from tests.support.cast import Cast
from tests.support.gateway import Browser, FakeBot, RunningGateway, sign_in
from tests.support.missing import required_service
from tests.support.scene import Scene

pytestmark = [pytest.mark.requests, pytest.mark.slow]


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    """Return a running cluster of this test, which may stop it."""
    with required_service(new_cluster()) as cluster, cluster.running():
        yield cluster


@pytest.fixture
def database_url(cluster: PostgresCluster, tmp_path: Path) -> str:
    """Return the URL of a migrated, empty database in that cluster."""
    url = cluster.url.replace("postgresql://", "postgresql+psycopg://")
    databases.migrate(url, tmp_path)
    return url


@pytest.fixture
def carol(gateway: RunningGateway, database: Database, cast: Cast, scene: Scene) -> Browser:
    """Return Carol's browser at the first bot."""
    return sign_in(gateway, database, cast.people["carol"], scene.bots[0])


def test_a_server_that_stands_still(bob: Browser, carol: Browser, bot: FakeBot, cluster: PostgresCluster) -> None:
    check_outage(bob, carol, bot, cluster.frozen())


def test_a_server_that_is_shut_down(bob: Browser, carol: Browser, bot: FakeBot, cluster: PostgresCluster) -> None:
    check_outage(bob, carol, bot, cluster.shut_down())
