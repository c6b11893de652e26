"""Failed rollbacks that an operator lets a worker continue: completed, refused with the reason, interrupted."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.engine.labels import KEEP_REPOSITORY
from daemon.update.sequence import update_bot
from demo.versions import CORRUPTING, FIRST
from portal.models import Bot, Event, Step, UpdateState, utcnow
from portal.services.bots import snapshots
from portal.services.rollouts import failed_rollbacks
from tests.daemon.update.test_recovery import exists, kill_worker_when
from tests.support.site import NOTE, Site, wait_until_answering
from tests.support.volumes import Entry

pytestmark = [pytest.mark.docker, pytest.mark.registry]

Contents = list[dict[str, Entry]]


@pytest.fixture
def before(site: Site) -> Contents:
    """The contents of the volumes before the update, whose rollback failed because an archive was away."""
    return site.contents()


@pytest.fixture
def archive(site: Site, before: Contents) -> Path:
    """The archive that was away during the rollback, which restored nothing."""
    assert before
    for version in (FIRST, CORRUPTING):
        site.images.digest(version)
    update_id = site.update_to(CORRUPTING)
    settings = site.with_settings(health_check_timeout=timedelta(seconds=8))
    worker = threading.Thread(target=update_bot, args=(site.database, settings, update_id))
    worker.start()
    while site.update(update_id).step is not Step.HEALTH:
        assert worker.is_alive()
        time.sleep(0.05)
    with site.database.reading() as session:
        archive = Path(snapshots.list_for_update(session, update_id)[0].archive)
    put_away(archive)
    worker.join()
    assert site.update(update_id).state is UpdateState.NEEDS_ATTENTION
    return archive


def put_away(archive: Path) -> None:
    """Move an archive to where no rollback finds it."""
    archive.rename(archive.with_suffix(".away"))


def put_back(archive: Path) -> None:
    """Move an archive back, as an operator who solves the problem."""
    archive.with_suffix(".away").rename(archive)


def request(site: Site) -> str:
    """Request to continue the rollback, as an operator, and return the id of the update."""
    with site.database.transaction() as session:
        bot = session.get_one(Bot, site.bot_id)
        return failed_rollbacks.request(session, bot, now=utcnow(), actor=None).id


def continue_rollback(site: Site) -> str:
    """Request to continue the rollback, and let a worker do it. Return the id of the update."""
    update_id = request(site)
    update_bot(site.database, site.settings, update_id)
    return update_id


def assert_recovered(site: Site, update_id: str, before: Contents) -> None:
    """The bot runs with its old data, and nothing is left behind."""
    update, bot = site.update(update_id), site.bot()
    assert (update.state, bot.needs_attention) == (UpdateState.ROLLED_BACK, None)
    assert "The rollback failed too" not in (update.error or "")
    assert (site.contents(), site.notes()) == (before, [NOTE])
    assert (bot.current_digest, bot.container_id) == (site.images.digest(FIRST), site.inspect()["Id"])
    assert site.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert site.leftovers() == []


def assert_refused(site: Site, problem: str, state: Callable[[], object]) -> None:
    """The rollback is refused with this problem and without any change of the containers or the data."""
    unchanged = state()
    update_id = continue_rollback(site)
    assert site.update(update_id).state is UpdateState.NEEDS_ATTENTION
    assert (site.update(update_id).error or "").count("The rollback failed too") == 1
    assert problem in (site.bot().needs_attention or "")
    assert state() == unchanged


def list_containers(site: Site) -> list[tuple[str, str]]:
    """Return the id and the state of all containers."""
    return sorted((found["Id"], found["State"]) for found in site.engine.containers(all=True))


def test_continued_rollback_restores_the_bot(site: Site, archive: Path, before: Contents) -> None:
    put_back(archive)
    update_id = continue_rollback(site)
    assert_recovered(site, update_id, before)
    with site.database.reading() as session:
        tags = session.scalars(sa.select(Event.tag).where(Event.bot_id == site.bot_id).order_by(Event.id)).all()
    assert tags == ["bot.update_failed", "bot.recovery_requested", "bot.update_failed", "bot.recovered"]
    update_bot(site.database, site.settings, update_id)  # a late duplicate of the job
    assert site.inspect()["Id"] == site.container


def test_worker_killed_while_it_continues_a_rollback_is_replaced(site: Site, archive: Path, before: Contents) -> None:
    put_back(archive)
    update_id = request(site)
    kill_worker_when(site, update_id, exists("restore-2"))
    workers = [threading.Thread(target=update_bot, args=(site.database, site.settings, update_id)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert_recovered(site, update_id, before)


def test_missing_archive_is_named(site: Site, archive: Path) -> None:
    update_id = continue_rollback(site)
    assert site.update(update_id).state is UpdateState.NEEDS_ATTENTION
    assert "the archive is missing; the volume was not touched" in (site.bot().needs_attention or "")
    assert not archive.exists()


def test_data_that_was_written_after_a_repair_is_not_overwritten(site: Site, archive: Path) -> None:
    put_back(archive)
    site.engine.start(site.container)
    site.engine.stop(site.container, timeout=0)
    assert_refused(site, "The old container was started by hand since", lambda: list_containers(site))


def test_container_that_uses_the_data_is_named(site: Site, archive: Path, before: Contents) -> None:
    put_back(archive)
    host = site.engine.create_host_config(binds={site.volume: {"bind": "/data", "mode": "rw"}})
    other = site.engine.create_container(
        site.settings.snapshot_image,
        ["sleep", "600"],
        host_config=host,
        labels=dict(site.labels),
        name=f"x{site.volume}",
    )["Id"]
    site.engine.start(other)
    try:
        assert_refused(site, f"The container x{site.volume} uses volume", lambda: list_containers(site))
    finally:
        site.engine.remove_container(other, force=True)
    assert_recovered(site, continue_rollback(site), before)


def test_pruned_container_and_image_are_named_with_the_command(
    site: Site, archive: Path, before: Contents, docker_url: str
) -> None:
    put_back(archive)
    tag = f"{KEEP_REPOSITORY}:{site.bot_id}"
    volumes = site.engine.inspect_container(site.container)["Mounts"]
    site.engine.remove_container(site.container)
    site.engine.remove_image(tag, noprune=True)
    assert_refused(site, f"docker tag {site.images.reference(FIRST)} {tag}", lambda: list_containers(site))

    instructions = site.bot().needs_attention or ""
    command = instructions.partition("Get it with: ")[2].splitlines()[0]
    environment = os.environ | {"DOCKER_HOST": docker_url}
    subprocess.run(["sh", "-c", command], env=environment, check=True, capture_output=True)
    update_id = continue_rollback(site)
    site.container = str(site.bot().container_id)  # so that the fixture removes it
    wait_until_answering(site)
    assert {mount["Name"] for mount in site.inspect()["Mounts"]} == {mount["Name"] for mount in volumes}
    assert_recovered(site, update_id, before)
