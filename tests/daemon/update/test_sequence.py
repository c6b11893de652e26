"""The update of one bot: success, failure in each phase, rollback, and manual recovery."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import pytest
import sqlalchemy as sa

from daemon.engine import client, containers, health_probe
from daemon.engine.health_probe import ProbeResult
from daemon.engine.labels import UPDATE_LABEL, container_name
from daemon.engine.recreate import creation
from daemon.update import retries
from daemon.update.sequence import update_bot
from demo.versions import CORRUPTING, CRASHING, CRASHING_LOUDLY, FIRST, SECOND, THIRD, UNHEALTHY, BotVersion
from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    Event,
    Node,
    SkipReason,
    Snapshot,
    SnapshotState,
    Step,
    UpdateState,
    Verdict,
)
from portal.services.bots import snapshots
from tests.support.site import NOTE, Site, wait_until_answering
from tests.support.slow_peers import Answer, slow_server
from tests.support.volumes import protected

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def test_good_release_replaces_the_old_one(site: Site) -> None:
    volumes, before = site.volumes(), site.contents()
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    update, bot, container = site.update(update_id), site.bot(), site.inspect()
    assert (update.error, update.state, update.verdict) == (None, UpdateState.UPDATED, Verdict.HEALTHY)
    assert (bot.container_id, bot.current_digest) == (container["Id"], site.images.digest(SECOND))
    assert bot.state is BotState.RUNNING
    assert f"http://{bot.address}" == site.address()
    assert site.notes() == [NOTE]
    assert site.volumes() == volumes
    assert site.contents() == before
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert {"COLOUR=blue", f"FLOTILLA_BOT_ID={bot.id}"} <= set(container["Config"]["Env"])
    assert site.leftovers() == []
    assert update.stopped_at is not None
    assert update.answering_at is not None
    assert update.stopped_at < update.answering_at


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (CORRUPTING, "after 4 s of probing"),
        (UNHEALTHY, "Health check failed: HTTP 503"),
        (CRASHING, "exited with status 1"),
    ],
    ids=["corrupting", "unhealthy", "crashing"],
)
def test_bad_release_is_rolled_back_with_all_data(site: Site, version: BotVersion, reason: str) -> None:
    volumes, before, old = site.volumes(), site.contents(), site.inspect()
    update_id = site.update_to(version)
    update_bot(site.database, site.with_settings(health_check_timeout=timedelta(seconds=4)), update_id)
    update, bot, container = site.update(update_id), site.bot(), site.inspect()
    assert (update.state, update.verdict) == (UpdateState.ROLLED_BACK, Verdict.FAILED)
    assert reason in (update.error or "")
    assert "reference bot" in (update.log_tail or "")
    assert container["Id"] == old["Id"] == bot.container_id
    assert container["State"]["Running"]
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert (bot.current_digest, bot.epoch) == (site.images.digest(FIRST), 2)
    assert site.volumes() == volumes
    assert site.contents() == before
    assert site.notes() == [NOTE]
    assert f"http://{bot.address}" == site.address()
    assert site.leftovers() == []
    assert update.answering_at is not None


@pytest.mark.every_database
def test_log_that_no_database_stores_does_not_stop_the_rollback(site: Site) -> None:
    """The last log line contains a NUL and a lone surrogate and is 10 MB long."""
    old = site.inspect()
    update_id = site.update_to(CRASHING_LOUDLY)
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.verdict) == (UpdateState.ROLLED_BACK, Verdict.FAILED)
    assert "exited with status 1" in (update.error or "")
    assert (update.log_tail or "").startswith("xxx")
    assert (update.log_tail or "").endswith("x crashed:  \ufffd\ufffd\ufffd")
    assert site.inspect()["Id"] == old["Id"] == site.bot().container_id
    assert site.notes() == [NOTE]


def test_failed_snapshot_ends_the_update_and_starts_the_old_container(site: Site) -> None:
    old = site.inspect()
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        folder = Path(session.scalars(sa.select(Node.snapshot_dir)).one())
    # A folder with the name of the second archive, which only the snapshot finds.
    obstacle = folder / f"{update_id}-2"
    obstacle.mkdir(parents=True)
    with protected(obstacle):
        update_bot(site.database, site.settings, update_id)
    update, bot, container = site.update(update_id), site.bot(), site.inspect()
    assert (update.state, update.verdict, update.transient) == (UpdateState.FAILED, None, False)
    assert "Snapshot of the volumes failed" in (update.error or "")
    assert container["Id"] == old["Id"]
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert site.notes() == [NOTE]
    assert bot.epoch == 1
    assert update.answering_at is not None
    # The next job repeats the cleanup.
    assert update.cleaned_at is None
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).cleaned_at is not None
    assert site.leftovers() == []


def test_image_outside_the_allowlist_is_never_pulled(site: Site) -> None:
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.with_settings(fleet_image_allowlist=("ghcr.io/acme",)), update_id)
    update = site.update(update_id)
    assert (update.state, update.step) == (UpdateState.FAILED, Step.PREFLIGHT)
    assert "FLEET_IMAGE_ALLOWLIST" in (update.error or "")
    assert is_unchanged(site)


def test_stopped_bot_is_skipped(site: Site) -> None:
    site.engine.stop(site.container, timeout=5)
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.skip_reason) == (UpdateState.SKIPPED, SkipReason.STOPPED)
    assert not site.inspect()["State"]["Running"]
    assert site.leftovers() == []


def test_error_for_a_missing_container_names_the_attach_command(site: Site) -> None:
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).container_id = "0" * 64
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    assert f"flotilla bots attach {site.volume} CONTAINER" in (site.update(update_id).error or "")


def test_bot_whose_volume_another_container_mounts_is_not_updated(site: Site) -> None:
    other = site.engine.create_container(
        site.images.reference(FIRST), host_config=site.engine.create_host_config(binds=[f"{site.volume}:/x"])
    )["Id"]
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    site.engine.remove_container(other, v=True)
    assert f"Volume {site.volume} is also mounted" in (site.update(update_id).error or "")
    assert is_unchanged(site)


def test_unusable_credentials_are_a_transient_failure(site: Site, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    update_id = site.update_to(SECOND)

    update_bot(site.database, site.with_settings(registry_config=tmp_path / "config.json"), update_id)

    update = site.update(update_id)
    assert (update.state, update.transient) == (UpdateState.FAILED, True)
    assert "config.json is not valid JSON" in (update.error or "")
    assert is_unchanged(site)


def test_failed_pull_changes_nothing(site: Site) -> None:
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        session.get_one(BotUpdate, update_id).rollout.release.digest = f"sha256:{'0' * 64}"
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.step) == (UpdateState.FAILED, Step.PULL)
    assert is_unchanged(site)


@pytest.mark.slow
def test_registry_that_hangs_is_not_the_fault_of_the_release(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "STREAM_SECONDS", 1)
    monkeypatch.setattr(retries, "WORKER_SECONDS", 1.0)
    update_id = site.update_to(SECOND)
    with slow_server(lambda _request: Answer(b"")) as address:
        with site.database.transaction() as session:
            release = session.get_one(BotUpdate, update_id).rollout.release
            release.repository = f"{address}/flotilla/reference-bot"
        update_bot(site.database, site.with_settings(fleet_image_allowlist=(address,)), update_id)
    update = site.update(update_id)
    assert (update.state, update.step, update.transient) == (UpdateState.FAILED, Step.PULL, True)
    assert is_unchanged(site)


def test_unreachable_engine_is_a_transient_failure(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "WORKER_SECONDS", 1.0)
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        session.scalars(sa.select(Node)).one().docker_url = "tcp://127.0.0.1:9"
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.transient) == (UpdateState.FAILED, True)
    assert is_unchanged(site)


def test_unusable_helper_image_is_a_transient_failure(site: Site) -> None:
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.with_settings(snapshot_image=site.images.reference(FIRST)), update_id)
    update = site.update(update_id)
    assert (update.state, update.step, update.transient) == (UpdateState.FAILED, Step.PREFLIGHT, True)
    assert is_unchanged(site)


def test_failed_cleanup_of_an_earlier_update_does_not_block_the_next(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier, later = site.update_to(THIRD), site.update_to(SECOND)
    # Prevents the archive, and then its deletion.
    obstacle = tmp_path / "snapshots" / f"{earlier}-2"
    obstacle.mkdir(parents=True)
    with protected(obstacle):
        update_bot(site.database, site.settings, earlier)
        assert site.update(earlier).cleaned_at is None

        update_bot(site.database, site.settings, later)

    assert site.update(later).state is UpdateState.UPDATED
    assert site.update(earlier).cleaned_at is None
    assert f"cleanup of update {earlier} failed" in caplog.text
    update_bot(site.database, site.settings, earlier)
    assert site.leftovers() == []


def test_cleanup_waits_while_the_bot_needs_attention(site: Site) -> None:
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    with site.database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        update.cleaned_at, update.bot.needs_attention = None, "the rollback of a later update failed"
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).cleaned_at is None


def test_container_left_by_a_timed_out_creation_is_replaced(site: Site) -> None:
    update_id = site.update_to(SECOND)
    late = site.engine.create_container(
        site.images.reference(SECOND), name=container_name(update_id, "new"), labels={UPDATE_LABEL: update_id}
    )["Id"]
    update_bot(site.database, site.settings, update_id)
    assert (site.update(update_id).error, site.update(update_id).state) == (None, UpdateState.UPDATED)
    assert site.inspect()["Id"] != late
    assert site.leftovers() == []


def test_single_failed_probe_before_the_update_does_not_mark_the_bot_unhealthy(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([ProbeResult(ok=False, detail="no answer: timed out")])
    probe = health_probe.probe
    monkeypatch.setattr(health_probe, "probe", lambda *where: next(answers, None) or probe(*where))
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).journal["healthy_before"] is True


def test_bot_renamed_by_hand_keeps_its_new_name(site: Site) -> None:
    site.engine.rename(site.container, f"renamed-{site.name}")
    other = create_container_named(site, site.name)
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    site.engine.remove_container(other)
    assert (site.update(update_id).error, site.update(update_id).state) == (None, UpdateState.UPDATED)
    found = site.engine.inspect_container(f"renamed-{site.name}")
    assert (site.bot().container_id, site.bot().container_name) == (found["Id"], f"renamed-{site.name}")


def test_bot_starts_again_even_if_another_container_has_taken_its_name(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, others = containers.rename, list[str]()

    def rename_and_lose_the_name(engine: docker.APIClient, container: str, name: str) -> None:
        rename(engine, container, name)
        if not others:
            others.append(create_container_named(site, site.name))

    monkeypatch.setattr(containers, "rename", rename_and_lose_the_name)
    first, again = site.update_to(SECOND), site.update_to(THIRD)
    update_bot(site.database, site.settings, first)
    site.engine.remove_container(others[0])
    update, old = site.update(first), site.engine.inspect_container(site.container)
    assert (update.state, site.bot().needs_attention) == (UpdateState.FAILED, None)
    assert update.answering_at is not None
    assert old["State"]["Running"]
    assert old["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    # The temporary name is not taken for the name of the bot.
    update_bot(site.database, site.settings, again)
    assert f"temporary name {container_name(first, 'old')}" in (site.update(again).error or "")
    site.engine.rename(site.container, site.name)
    assert is_unchanged(site)


def test_two_workers_update_the_bot_once(site: Site) -> None:
    update_id = site.update_to(SECOND)
    workers = [threading.Thread(target=update_bot, args=(site.database, site.settings, update_id)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    update = site.update(update_id)
    assert (update.state, update.attempt) == (UpdateState.UPDATED, 1)
    with site.database.reading() as session:
        assert session.scalars(sa.select(Event.tag).where(Event.bot_id == site.bot_id)).all() == ["bot.updated"]
    assert site.leftovers() == []


def test_failed_rollback_marks_the_bot_and_its_instructions_restore_it(site: Site, docker_url: str) -> None:
    before = site.contents()
    update_id = site.update_to(CORRUPTING)
    with worker_in_health_check(site, update_id):
        archives = [Path(path) for path in list_archives(site, update_id)]
        archives[0].rename(archives[0].with_suffix(".away"))
    update, bot = site.update(update_id), site.bot()
    assert update.state is UpdateState.NEEDS_ATTENTION
    instructions = bot.needs_attention or ""
    assert all(str(archive) in instructions for archive in archives)
    # Customers see the error and the event, which must not contain the instructions for operators.
    assert "The rollback failed too" in (update.error or "")
    with site.database.reading() as session:
        visible = f"{update.error} {[event.data for event in session.scalars(sa.select(Event))]}"
    assert not any(str(archive.parent) in visible for archive in archives)
    assert "docker " not in visible
    assert site.engine.inspect_container(site.container)["Name"] == f"/{container_name(update_id, 'old')}"
    # Later jobs leave the update alone.
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).state is UpdateState.NEEDS_ATTENTION
    # An operator solves the problem and runs the commands.
    archives[0].with_suffix(".away").rename(archives[0])
    commands = [line for line in instructions.splitlines() if line.startswith("docker ")]
    script = "\n".join(["set -e", *commands])
    subprocess.run(["sh", "-c", script], env=os.environ | {"DOCKER_HOST": docker_url}, check=True)
    wait_until_answering(site)
    assert (site.inspect()["Id"], site.notes()) == (site.container, [NOTE])
    assert site.contents() == before
    assert site.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_cleanup_works_without_the_checked_helper_image_and_the_new_container(site: Site) -> None:
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    with site.database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        update.cleaned_at, update.journal = None, update.journal | {"helper_image": f"sha256:{'0' * 64}"}
        for snapshot in session.scalars(sa.select(Snapshot)):
            snapshot.state = SnapshotState.VERIFIED
            Path(snapshot.archive).write_bytes(b"left by a dead worker")
    site.engine.remove_container(str(update.new_container_id), force=True)

    update_bot(site.database, site.settings, update_id)

    assert site.update(update_id).cleaned_at is not None
    assert site.leftovers() == []


def test_pruned_old_container_is_created_again(site: Site) -> None:
    before, volumes = site.contents(), site.volumes()
    update_id = site.update_to(CORRUPTING)
    with worker_in_health_check(site, update_id):
        site.engine.remove_container(site.container)
    update, container = site.update(update_id), site.inspect()
    assert (update.state, site.bot().container_id) == (UpdateState.ROLLED_BACK, container["Id"])
    assert site.contents() == before
    assert site.volumes() == volumes
    assert site.notes() == [NOTE]
    assert "COLOUR=blue" in container["Config"]["Env"]
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert site.leftovers() == []


def test_bot_that_needs_attention_refers_to_the_recreated_old_container(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_original = creation.plan_original

    def plan_broken_container(*arguments: Any) -> creation.Plan:
        plan = plan_original(*arguments)
        plan.config["Entrypoint"] = ["/nowhere"]
        return plan

    monkeypatch.setattr(creation, "plan_original", plan_broken_container)
    update_id = site.update_to(CORRUPTING)
    with worker_in_health_check(site, update_id):
        site.engine.remove_container(site.container)
    assert site.update(update_id).state is UpdateState.NEEDS_ATTENTION
    recreated = site.inspect()["Id"]
    assert recreated != site.container
    assert site.bot().container_id == recreated
    assert f"docker start {recreated[:12]}" in (site.bot().needs_attention or "")
    site.container = recreated  # so that the fixture removes it


def test_instructions_for_a_container_that_cannot_be_recreated_name_the_attach_command(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "plan_original", lambda *_: creation.Plan({"Image": "no such image"}, []))
    volumes, update_id = site.volumes(), site.update_to(CORRUPTING)
    with worker_in_health_check(site, update_id):
        site.engine.remove_container(site.container)
    instructions = site.bot().needs_attention or ""
    assert f"flotilla bots attach {site.volume} {site.name}" in instructions
    assert site.container[:12] not in instructions
    for volume in volumes:
        site.engine.remove_volume(volume)


@contextmanager
def worker_in_health_check(site: Site, update_id: str) -> Iterator[None]:
    """Let a worker reach the health check of a bad release, run the block, and let the worker finish."""
    settings = site.with_settings(health_check_timeout=timedelta(seconds=8))
    worker = threading.Thread(target=update_bot, args=(site.database, settings, update_id))
    worker.start()
    while site.update(update_id).step is not Step.HEALTH:
        assert worker.is_alive()
        time.sleep(0.05)
    yield
    worker.join()


def create_container_named(site: Site, name: str) -> str:
    """Create a container with this name that belongs to no bot."""
    return str(site.engine.create_container(site.images.reference(FIRST), name=name, labels=dict(site.labels))["Id"])


def list_archives(site: Site, update_id: str) -> list[str]:
    """Return the paths of the archives of an update."""
    with site.database.reading() as session:
        return [row.archive for row in snapshots.list_for_update(session, update_id)]


def is_unchanged(site: Site) -> bool:
    """Return whether the bot still runs unchanged and nothing is left behind."""
    container = site.inspect()
    return (
        (container["Id"], site.notes(), site.leftovers()) == (site.container, [NOTE], [])
        and container["RestartCount"] == 0
        and container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        and site.bot().container_id == site.container
    )
