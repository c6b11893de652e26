"""An engine that is restarted in the middle of an update is nobody's fault, and nothing is lost by it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from daemon.engine import containers
from daemon.update.sequence import update_bot
from demo.engine import running_engine
from demo.versions import FIRST, BotVersion
from portal.models import Step, UpdateState
from tests.support.missing import part
from tests.support.site import NOTE, Site, wait_for

pytestmark = [
    pytest.mark.docker,
    pytest.mark.registry,
    # The Docker library forgets to close the socket of a connection that was refused.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


HESITANT = BotVersion("1.3.9", start_seconds=8)
"""A release that is not healthy yet when its engine is stopped."""


class OwnEngine:
    """An engine that only this test uses, so that it may be restarted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start it; what was in it before is there again."""
        self.url = self._running.enter_context(part(running_engine(self._folder)))

    def stop(self) -> None:
        """End it, and with it every container."""
        self._running.close()


@pytest.fixture
def own_engine(machine_folder: Path, caplog: pytest.LogCaptureFixture) -> Iterator[OwnEngine]:
    """An engine of our own."""
    own = OwnEngine(machine_folder / "restarted")
    yield own
    own.stop()
    # What was logged holds tracebacks, and these the sockets: they go while their warnings are still this test's.
    caplog.get_records("call").clear()
    gc.collect()


@pytest.fixture
def site(empty_site: Site, own_engine: OwnEngine, tmp_path: Path) -> Iterator[Site]:
    """A node of that engine with a running bot that keeps a note."""
    for version in (FIRST, HESITANT):
        empty_site.images.digest(version)
    client = docker.APIClient(base_url=own_engine.url, version="auto", timeout=60)
    pull(client, empty_site.images.reference(FIRST))
    pull(client, empty_site.settings.snapshot_image)
    site = replace(empty_site, engine=client)
    site.add_bot(docker_url=own_engine.url, folder=tmp_path)
    wait_for(site)
    site.add_note(NOTE)
    yield site
    client.close()


def pull(client: docker.APIClient, image: str) -> None:
    """Get an image from the test registry."""
    client.pull(image)


def log_of_new(site: Site, update_id: str) -> str | None:
    """What the new container has said."""
    return containers.log_tail(site.engine, site.update(update_id).new_container_id)


@pytest.mark.parametrize(
    ("step", "ends", "runs"),
    [(Step.STOP, UpdateState.FAILED, FIRST), (Step.HEALTH, UpdateState.UPDATED, HESITANT)],
    ids=["stop", "health"],
)
def test_the_update_goes_on_when_the_engine_is_back(
    site: Site, own_engine: OwnEngine, step: Step, ends: UpdateState, runs: BotVersion
) -> None:
    update_id = site.update_to(HESITANT)
    worker = threading.Thread(target=update_bot, args=(site.database, site.settings, update_id))
    worker.start()
    while site.update(update_id).step is not step:
        assert worker.is_alive()
        time.sleep(0.005)
    while step is Step.HEALTH and not log_of_new(site, update_id):
        time.sleep(0.05)  # before it handles signals it would not notice that the engine wants it to end
    own_engine.stop()
    worker.join()
    update_bot(site.database, site.settings, update_id)  # in vain, while there is no engine
    update = site.update(update_id)
    assert (update.state, update.verdict) == (UpdateState.RUNNING, None)
    own_engine.start()
    update_bot(site.database, site.settings, update_id)
    update, bot = site.update(update_id), site.bot()
    assert (update.state, update.error is None) == (ends, ends is UpdateState.UPDATED)
    assert (bot.current_digest, bot.epoch) == (site.images.digest(runs), 1)
    assert site.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert site.notes() == [NOTE]
    assert site.left_behind() == []
