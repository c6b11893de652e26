"""Fixtures for tests of updates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.update.chaos import Chaos
from tests.daemon.update.forking_worker import CALL_SECONDS, forking_worker
from tests.support.faulty_engine import faulty_engine
from tests.support.site import Site


@pytest.fixture
def chaos(empty_site: Site, docker_url: str, tmp_path: Path) -> Iterator[Chaos]:
    """A node behind a proxy that injects faults, and workers."""
    log = tmp_path / "workers.log"
    with faulty_engine(docker_url, CALL_SECONDS + 1) as (engine, url), forking_worker(log) as worker:
        yield Chaos(empty_site, tmp_path, engine, url, worker, log)
