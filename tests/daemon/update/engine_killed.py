"""The engine and its containers are killed at random moments of an update. Part of `make test-chaos`."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from demo.versions import FIRST
from tests.daemon.update.chaos import RELEASES, Chaos
from tests.daemon.update.forking_worker import CALL_SECONDS, forking_worker
from tests.daemon.update.test_engine_restart import OwnEngine
from tests.support.faulty_engine import faulty_engine
from tests.support.site import Site

pytestmark = [
    pytest.mark.docker,
    pytest.mark.registry,
    pytest.mark.timeout(0),
    # The Docker library does not close the socket of a refused connection, and the proxy gets some of them.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_MOMENTS = 20
_LONGEST_UPDATE_SECONDS = 12.0


@contextmanager
def own_engine(folder: Path) -> Iterator[OwnEngine]:
    """Run an engine that can be killed."""
    engine = OwnEngine(folder)
    try:
        yield engine
    finally:
        engine.stop()


def crash_and_start(engine: OwnEngine, folder: Path) -> None:
    """Kill the engine with all its processes and containers, and start it again, as after a crash of the machine."""
    engine.kill([])
    containers = [path.name for path in (folder / "data" / "containers").iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            group = (process / "cgroup").read_text()
            if any(container in group for container in containers):
                os.kill(int(process.name), signal.SIGKILL)
    engine.start()


@pytest.mark.parametrize("release", RELEASES)
def test_killed_engine_loses_no_bot_and_no_data(
    empty_site: Site, machine_folder: Path, tmp_path: Path, release: str
) -> None:
    choose = random.Random(os.environ.get("FLOTILLA_CHAOS_SEED"))  # noqa: S311 - not a secret
    problems = []
    for version in (FIRST, *RELEASES.values()):
        empty_site.images.digest(version)
    folder = machine_folder / f"killed-{release}"
    with (
        own_engine(folder) as engine,
        faulty_engine(engine.url, CALL_SECONDS + 1) as (proxy, url),
        forking_worker(tmp_path / "workers.log") as worker,
        # Its thread stays until the end, because an engine ends with the thread that has started it.
        ThreadPoolExecutor(max_workers=1) as pool,
    ):
        client = docker.APIClient(base_url=engine.url, version="auto", timeout=60)
        for image in (empty_site.images.reference(FIRST), empty_site.settings.snapshot_image):
            client.pull(image)
        site = replace(empty_site, engine=client)
        chaos = Chaos(site, tmp_path, proxy, url, worker, tmp_path / "workers.log", may_be_stopped=True)
        for _ in range(_MOMENTS):
            seconds = choose.uniform(0, _LONGEST_UPDATE_SECONDS)
            try:
                chaos.run(release, None, None, _crashed_after(seconds, engine, folder, pool))
            except AssertionError as error:
                problems.append(f"killed after {seconds:.1f} s: {error}")
        client.close()
    assert not problems, "\n\n".join(problems)


@contextmanager
def _crashed_after(seconds: float, engine: OwnEngine, folder: Path, pool: Executor) -> Iterator[None]:
    def crash() -> None:
        time.sleep(seconds)
        crash_and_start(engine, folder)

    crashed = pool.submit(crash)
    yield
    crashed.result()
