"""An engine that restarts during an update: the update is resumed, and no data is lost."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
import sqlalchemy as sa

from daemon.bots.desired_state import apply_desired_state
from daemon.bots.node_probe import probe_node
from daemon.engine import containers
from daemon.rollout import orchestrator
from daemon.update import retries
from daemon.update.sequence import update_bot
from demo.engine import running_engine
from demo.processes import free_port
from demo.versions import FIRST, BotVersion
from portal.models import Bot, BotState, Step, UpdateState, utcnow
from portal.services.bots import desired_state
from tests.daemon.update.test_recovery import entered, kill_worker_when
from tests.support.missing import required_service
from tests.support.site import NOTE, Site, wait_until_answering

pytestmark = [
    pytest.mark.docker,
    pytest.mark.registry,
    # The Docker library does not close the socket of a refused connection.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


SLOW_START = BotVersion("1.3.9", start_seconds=8)
"""A release that is not healthy yet when its engine stops."""


class OwnEngine:
    """An engine that only this test uses, so that it can be restarted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = ExitStack()
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start the engine with its previous data."""
        self.url = self._running.enter_context(required_service(running_engine(self._folder)))

    def stop(self) -> None:
        """Stop the engine and all its containers."""
        self._running.close()

    def kill(self, processes: Sequence[int]) -> None:
        """Kill the engine and these processes of its containers at once, as a crash of the machine does."""
        runtime = Path(self.url.removeprefix("unix://")).parent
        os.kill(int((runtime / "docker.pid").read_text()), signal.SIGKILL)
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (folder / "cmdline").read_bytes().split(b"\0")
                # The helper processes of the engine would keep the containers running.
                if bytes(runtime / "exec") in b" ".join(command) or int(folder.name) in processes:
                    os.kill(int(folder.name), signal.SIGKILL)
        self._running.close()


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "WORKER_SECONDS", 1.0)


@pytest.fixture
def own_engine(machine_folder: Path, caplog: pytest.LogCaptureFixture) -> Iterator[OwnEngine]:
    """An engine that this test may restart."""
    own = OwnEngine(machine_folder / "restarted")
    yield own
    own.stop()
    # Logged tracebacks keep sockets alive. Collect them now, so that their warnings belong to this test.
    caplog.get_records("call").clear()
    gc.collect()


@pytest.fixture
def site(empty_site: Site, own_engine: OwnEngine, tmp_path: Path) -> Iterator[Site]:
    """A node with this engine and a running bot that has a note."""
    for version in (FIRST, SLOW_START):
        empty_site.images.digest(version)
    client = docker.APIClient(base_url=own_engine.url, version="auto", timeout=60)
    pull(client, empty_site.images.reference(FIRST))
    pull(client, empty_site.settings.snapshot_image)
    site = replace(empty_site, engine=client)
    site.add_bot(docker_url=own_engine.url, folder=tmp_path, host_port=free_port())
    wait_until_answering(site)
    site.add_note(NOTE)
    yield site
    client.close()


def pull(client: docker.APIClient, image: str) -> None:
    """Pull an image from the test registry."""
    client.pull(image)


def read_new_log(site: Site, update_id: str) -> str | None:
    """Return the log of the new container."""
    return containers.log_tail(site.engine, site.update(update_id).new_container_id)


@pytest.mark.parametrize(
    ("step", "ends", "runs"),
    [(Step.STOP, UpdateState.FAILED, FIRST), (Step.HEALTH, UpdateState.UPDATED, SLOW_START)],
    ids=["stop", "health"],
)
def test_update_is_resumed_after_a_restart_of_the_engine(  # noqa: PLR0917 - fixtures come by name
    site: Site,
    own_engine: OwnEngine,
    monkeypatch: pytest.MonkeyPatch,
    step: Step,
    ends: UpdateState,
    runs: BotVersion,
) -> None:
    stop, is_down = containers.stop, threading.Event()

    def stop_when_the_engine_is_down(*arguments: Any, **options: Any) -> None:
        assert step is not Step.STOP or is_down.wait(60)
        stop(*arguments, **options)

    monkeypatch.setattr(containers, "stop", stop_when_the_engine_is_down)
    update_id = site.update_to(SLOW_START)
    worker = threading.Thread(target=update_bot, args=(site.database, site.settings, update_id))
    worker.start()
    while site.update(update_id).step is not step:
        assert worker.is_alive()
        time.sleep(0.005)
    while step is Step.HEALTH and not read_new_log(site, update_id):
        time.sleep(0.05)  # wait until the bot handles signals, or it would ignore the stop of the engine
    own_engine.stop()
    is_down.set()
    worker.join()
    update_bot(site.database, site.settings, update_id)  # nothing can happen without the engine
    update = site.update(update_id)
    assert (update.state, update.verdict) == (UpdateState.RUNNING, None)
    own_engine.start()
    update_bot(site.database, site.settings, update_id)
    update, bot = site.update(update_id), site.bot()
    assert (update.state, update.error is None) == (ends, ends is UpdateState.UPDATED)
    assert (bot.current_digest, bot.epoch) == (site.images.digest(runs), 1)
    assert site.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert site.notes() == [NOTE]
    assert site.leftovers() == []


def test_release_is_not_blamed_for_a_crash_of_the_engine_during_the_health_check(
    site: Site, own_engine: OwnEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "WORKER_SECONDS", 60.0)
    update_id = site.update_to(SLOW_START)
    worker = threading.Thread(target=update_bot, args=(site.database, site.settings, update_id))
    worker.start()
    while site.update(update_id).step is not Step.HEALTH:
        assert worker.is_alive()
        time.sleep(0.05)
    container = site.engine.inspect_container(site.update(update_id).new_container_id or "")
    own_engine.kill([container["State"]["Pid"]])
    own_engine.start()
    worker.join()
    update_bot(site.database, site.settings, update_id)
    assert (site.update(update_id).error, site.update(update_id).state) == (None, UpdateState.UPDATED)
    assert (site.notes(), site.leftovers()) == ([NOTE], [])


def work_until_updated(site: Site, update_id: str) -> None:
    """Do what scheduler and workers do, until the update has ended well."""
    for _ in range(120):
        probe_node(site.database, site.bot().node_id)
        with site.database.reading() as session:
            started = [bot_id for bot_id, _ in desired_state.list_pending(session)]
        for bot_id in started:
            apply_desired_state(site.database, bot_id)
        for due in orchestrator.tick(site.database, utcnow(), None):
            update_bot(site.database, site.settings, due.update_id)
        if site.update(update_id).state is UpdateState.UPDATED:
            return
        assert site.update(update_id).state is not UpdateState.NEEDS_ATTENTION
        time.sleep(0.5)
    raise AssertionError(f"the update is {site.update(update_id).state}")


def test_bot_that_a_killed_engine_leaves_down_is_started_and_updated(site: Site, own_engine: OwnEngine) -> None:
    """The engine is killed during the preflight. When it is back, it cannot start the bot: its port is taken."""
    update_id = site.update_to(SLOW_START)
    container = site.inspect()
    port = int(container["NetworkSettings"]["Ports"]["3100/tcp"][0]["HostPort"])
    kill_worker_when(site, update_id, entered(Step.PREFLIGHT))
    own_engine.kill([container["State"]["Pid"]])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        own_engine.start()
        update_bot(site.database, site.settings, update_id)  # it is pending again
        probe_node(site.database, site.bot().node_id)
        assert (site.bot().state, site.bot().is_being_started) == (BotState.STOPPED, True)
        apply_desired_state(site.database, site.bot_id)
        assert "address already in use" in (site.bot().state_detail or "")
    with site.database.transaction() as session:
        session.execute(sa.update(Bot).values(restart_requested_at=utcnow()))  # the delay is over
    work_until_updated(site, update_id)
    assert (site.bot().current_digest, site.bot().epoch) == (site.images.digest(SLOW_START), 1)
    assert (site.notes(), site.leftovers()) == ([NOTE], [])
    assert site.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
