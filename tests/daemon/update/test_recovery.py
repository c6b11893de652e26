"""Workers that are killed during an update: the next worker completes or undoes it, with the right data."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from daemon.engine.labels import container_name
from daemon.update.sequence import update_bot
from demo.versions import CORRUPTING, FIRST, SECOND, BotVersion
from portal.models import BotUpdate, SnapshotState, Step, UpdateState, Verdict
from portal.services.bots import snapshots
from tests.support.site import NOTE, Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]

Moment = Callable[[Site, BotUpdate], bool]


def entered(step: Step) -> Moment:
    """Return whether this step was just recorded."""
    return lambda _site, update: update.step is step


def exists(role: str) -> Moment:
    """Return whether a container of this update with this role exists, such as a helper."""
    # Names of helpers end with the fence of the lease.
    name = re.compile(rf"/flotilla-[a-z0-9]+-{role}(-f\d+)?")

    def is_there(site: Site, update: BotUpdate) -> bool:
        found = site.engine.containers(all=True, filters={"name": container_name(update.id, role)})
        return any(name.fullmatch(each) for container in found for each in container["Names"])

    return is_there


def has_verified_archives(site: Site, update: BotUpdate) -> bool:
    """Return whether the archives of the volumes are complete."""
    with site.database.reading() as session:
        taken = snapshots.list_for_update(session, update.id)
    return bool(taken) and all(snapshot.state is SnapshotState.VERIFIED for snapshot in taken)


def is_old_stopped(site: Site, update: BotUpdate) -> bool:
    """Return whether the old container was stopped."""
    return not site.engine.inspect_container(site.container)["State"]["Running"]


def is_new_running(site: Site, update: BotUpdate) -> bool:
    """Return whether the new container was started."""
    return update.new_container_id is not None and bool(
        site.engine.inspect_container(update.new_container_id)["State"]["Running"]
    )


def has_healthy_verdict(site: Site, update: BotUpdate) -> bool:
    """Return whether the verdict on the new container is healthy."""
    return update.verdict is Verdict.HEALTHY


def is_old_running_again(site: Site, update: BotUpdate) -> bool:
    """Return whether the rollback has started the old container again."""
    return update.verdict is Verdict.FAILED and not is_old_stopped(site, update)


@contextmanager
def worker(site: Site, update_id: str, health_seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker process for the update."""
    environment = os.environ | {
        "FLEET_IMAGE_ALLOWLIST": ",".join(site.settings.fleet_image_allowlist),
        "SNAPSHOT_IMAGE": site.settings.snapshot_image,
        "REGISTRY_CONFIG": str(site.settings.registry_config),
        "HEALTH_TIMEOUT_SECONDS": str(health_seconds),
        "HEALTH_INTERVAL_SECONDS": "0.5",
    }
    command = [sys.executable, "-m", "tests.daemon.update.one_worker", update_id]
    with subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[3]) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_worker_when(site: Site, update_id: str, moment: Moment, health_seconds: float = 4) -> None:
    """Start a worker, kill it at this moment, and let its lease expire."""
    with worker(site, update_id, health_seconds) as process:
        while process.poll() is None:
            # Suspended during the check, so that it cannot pass the moment unnoticed.
            process.send_signal(signal.SIGSTOP)
            if is_moment(site, update_id, moment):
                break
            process.send_signal(signal.SIGCONT)
            time.sleep(0.005)
        assert process.poll() is None, "the worker finished before the moment"
        process.kill()
    assert site.update(update_id).cleaned_at is None, "killed too late"
    site.expire_lease()


def is_moment(site: Site, update_id: str, moment: Moment) -> bool:
    """Return whether the moment is now. Return `False` if the suspended worker is in the middle of a commit.

    A worker that is suspended while it writes the header of SQLite's WAL index holds its lock, so no process can
    begin to read: after 10 s SQLite refuses ("locking protocol"), and only the worker can end this state.
    """
    try:
        return moment(site, site.update(update_id))
    except OperationalError:
        return False


@pytest.mark.parametrize(
    ("moment", "final_state"),
    [
        (exists("snapshots"), UpdateState.PENDING),
        (exists("new"), UpdateState.PENDING),
        (entered(Step.BASE), UpdateState.PENDING),
        (entered(Step.DRAIN), UpdateState.PENDING),
        (entered(Step.STOP), UpdateState.FAILED),
        (is_old_stopped, UpdateState.FAILED),
        (entered(Step.SNAPSHOT), UpdateState.FAILED),
        (has_verified_archives, UpdateState.FAILED),
        (exists("old"), UpdateState.FAILED),
        (entered(Step.START), UpdateState.UPDATED),
        (is_new_running, UpdateState.UPDATED),
        (has_healthy_verdict, UpdateState.UPDATED),
    ],
    ids=[
        "helper",
        "precreated",
        "base",
        "drain",
        "stop",
        "stopped",
        "snapshot",
        "verified",
        "swap",
        "start",
        "started",
        "healthy",
    ],
)
def test_interrupted_update_to_a_good_release_is_completed_or_undone(
    site: Site, moment: Moment, final_state: UpdateState
) -> None:
    before, volumes = site.contents(), site.volumes()
    update_id = site.update_to(SECOND)
    kill_worker_when(site, update_id, moment, health_seconds=60)
    update_bot(site.database, site.settings, update_id)
    update, bot, container = site.update(update_id), site.bot(), site.inspect()
    assert update.state is final_state
    runs = SECOND if final_state is UpdateState.UPDATED else FIRST
    assert bot.current_digest == site.images.digest(runs)
    assert (bot.container_id == site.container) is (runs is FIRST)
    assert bot.container_id == container["Id"]
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert (site.contents(), site.volumes(), site.notes()) == (before, volumes, [NOTE])
    assert (bot.epoch, bot.needs_attention) == (1, None)
    assert update.transient is (final_state is UpdateState.FAILED)
    assert site.leftovers() == []


@pytest.mark.parametrize(
    "moment",
    [entered(Step.HEALTH), entered(Step.ROLLBACK), exists("restore"), is_old_running_again],
    ids=["health", "rollback", "restore", "old one back"],
)
def test_interrupted_update_to_a_bad_release_is_rolled_back(site: Site, moment: Moment) -> None:
    before, volumes = site.contents(), site.volumes()
    update_id = site.update_to(CORRUPTING)
    kill_worker_when(site, update_id, moment, health_seconds=3)
    update_bot(site.database, site.with_settings(health_check_timeout=timedelta(seconds=4)), update_id)
    assert_rolled_back(site, update_id)
    assert (site.contents(), site.volumes(), site.notes()) == (before, volumes, [NOTE])


def test_rollback_interrupted_twice_is_completed(site: Site) -> None:
    before = site.contents()
    update_id = site.update_to(CORRUPTING)
    for moment in (exists("restore"), exists("restore")):
        kill_worker_when(site, update_id, moment, health_seconds=3)
    update_bot(site.database, site.settings, update_id)
    assert_rolled_back(site, update_id)
    assert (site.contents(), site.notes()) == (before, [NOTE])


def test_update_interrupted_before_the_stop_is_repeated(site: Site) -> None:
    update_id = site.update_to(SECOND)
    kill_worker_when(site, update_id, entered(Step.CAPTURE))
    for _ in range(2):
        update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.attempt) == (UpdateState.UPDATED, 2)
    assert site.leftovers() == []


def assert_rolled_back(site: Site, update_id: str) -> None:
    """The bot uses its old container in a new epoch, and nothing is left behind."""
    update, bot, container = site.update(update_id), site.bot(), site.inspect()
    assert (update.state, update.verdict) == (UpdateState.ROLLED_BACK, Verdict.FAILED)
    assert (bot.container_id, container["Id"]) == (site.container, site.container)
    assert (bot.current_digest, bot.epoch) == (site.images.digest(FIRST), 2)
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert site.leftovers() == []


@pytest.fixture(autouse=True)
def _build_versions_in_advance(site: Site) -> None:
    versions: tuple[BotVersion, ...] = (FIRST, SECOND, CORRUPTING)
    for version in versions:
        site.images.digest(version)
