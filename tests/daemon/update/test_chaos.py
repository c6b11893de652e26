"""Updates in which one call to the engine fails: the bot ends up on one of both releases, with the right data.

`make test-chaos` injects every fault at every call. `make test` takes a sample, which changes every day;
`FLOTILLA_CHAOS_SEED` repeats it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.daemon.update.chaos import RELEASES, Chaos
from tests.daemon.update.forking_worker import CALL_SECONDS, forking_worker
from tests.support.faulty_engine import Fault, faulty_engine
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]

SEED = os.environ.get("FLOTILLA_CHAOS_SEED") or f"{datetime.now(UTC):%Y-%m-%d}"


@pytest.fixture
def chaos(empty_site: Site, docker_url: str, tmp_path: Path) -> Iterator[Chaos]:
    """A node behind the proxy, and workers."""
    log = tmp_path / "workers.log"
    with faulty_engine(docker_url, CALL_SECONDS + 1) as (engine, url), forking_worker(log) as worker:
        yield Chaos(empty_site, tmp_path, engine, url, worker, log)


@pytest.mark.parametrize("release", RELEASES)
def test_one_failing_call_changes_no_outcome(chaos: Chaos, release: str) -> None:
    choose = random.Random(f"{SEED} {release}")  # noqa: S311 - not a secret
    calls = chaos.record_calls(release)
    for fault in choose.sample(list(Fault), 2):
        call = choose.choice(calls)
        chaos.run(release, call, fault)


@pytest.mark.skipif("FLOTILLA_CHAOS" not in os.environ, reason="takes hours: make test-chaos")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("release", RELEASES)
def test_every_call_may_fail(chaos: Chaos, release: str, fault: Fault) -> None:
    problems = []
    for call in chaos.record_calls(release):
        try:
            chaos.run(release, call, fault)
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n\n".join(problems)
