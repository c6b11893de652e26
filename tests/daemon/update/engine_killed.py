"""The engine is killed with SIGKILL at random moments of an update and started again. Part of `make test-chaos`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest

from daemon.engine.client import Engine
from demo.engine import running_engine
from demo.processes import wait_until
from demo.versions import FIRST
from tests.daemon.update.chaos import RELEASES, Chaos
from tests.daemon.update.forking_worker import CALL_SECONDS, forking_worker
from tests.support.faulty_engine import faulty_engine
from tests.support.missing import required_service
from tests.support.site import Site

pytestmark = [
    pytest.mark.docker,
    pytest.mark.registry,
    pytest.mark.timeout(0),
    # The Docker library does not close the socket of a refused connection.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_MOMENTS = 20
_LONGEST_UPDATE_SECONDS = 12.0


class KillableEngine:
    """An engine of this test.

    Args:
        url: its address.
        log: file for the output of the engines that replace it.
    """

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log
        self._pid_file = Path(urlsplit(url).path).with_name("docker.pid")
        self._replacements = list[subprocess.Popen[bytes]]()

    def kill_and_start(self) -> None:
        """Kill the engine and start it again, as a service manager does. Its containers survive until then."""
        pid = int(self._pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        os.kill(pid, signal.SIGKILL)
        self._pid_file.unlink()  # a process of this test may be a zombie, which the engine takes for a running engine
        with self._log.open("ab") as output:
            self._replacements.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
        wait_until(self._answers, "the engine did not answer", 60, interval=0.1)

    def stop(self) -> None:
        """Stop the last engine."""
        for process in self._replacements:
            process.terminate()
            process.wait()

    def _answers(self) -> bool:
        try:
            Engine(base_url=self.url, version="auto", timeout=5).close()
        except docker.errors.DockerException:
            return False
        return True


@contextmanager
def killable_engine(folder: Path) -> Iterator[KillableEngine]:
    """Run an engine that can be killed."""
    with required_service(running_engine(folder)) as url:
        engine = KillableEngine(url, folder / "engine.log")
        try:
            yield engine
        finally:
            engine.stop()


@pytest.mark.parametrize("release", RELEASES)
def test_killed_engine_loses_no_bot_and_no_data(
    empty_site: Site, machine_folder: Path, tmp_path: Path, release: str
) -> None:
    choose = random.Random(os.environ.get("FLOTILLA_CHAOS_SEED"))  # noqa: S311 - not a secret
    problems = []
    for version in (FIRST, *RELEASES.values()):
        empty_site.images.digest(version)
    with (
        killable_engine(machine_folder / f"killed-{release}") as killed,
        faulty_engine(killed.url, CALL_SECONDS + 1) as (proxy, url),
        forking_worker(tmp_path / "workers.log") as worker,
    ):
        client = docker.APIClient(base_url=killed.url, version="auto", timeout=60)
        for image in (empty_site.images.reference(FIRST), empty_site.settings.snapshot_image):
            client.pull(image)
        site = replace(empty_site, engine=client)
        chaos = Chaos(site, tmp_path, proxy, url, worker, tmp_path / "workers.log", may_be_stopped=True)
        for _ in range(_MOMENTS):
            seconds = choose.uniform(0, _LONGEST_UPDATE_SECONDS)
            try:
                chaos.run(release, None, None, _killed_after(seconds, killed))
            except AssertionError as error:
                problems.append(f"killed after {seconds:.1f} s: {error}")
        client.close()
    assert not problems, "\n\n".join(problems)


@contextmanager
def _killed_after(seconds: float, engine: KillableEngine) -> Iterator[None]:
    def kill() -> None:
        time.sleep(seconds)
        engine.kill_and_start()

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()
