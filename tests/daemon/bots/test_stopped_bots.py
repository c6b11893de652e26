"""Bots that stop without a request: which of them Flotilla starts again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from daemon.bots.desired_state import apply_desired_state
from daemon.bots.node_probe import probe_node
from daemon.engine import containers, stopped_containers
from daemon.rollout import orchestrator
from daemon.update.sequence import update_bot
from demo.processes import free_port
from demo.versions import FIRST, SECOND
from portal.models import Bot, BotState, Event, SkipReason, UpdateState, utcnow
from portal.services.bots import desired_state
from tests.support.site import NOTE, Site, wait_until_answering

pytestmark = [pytest.mark.docker, pytest.mark.registry]


@pytest.fixture
def site(empty_site: Site, docker_url: str, tmp_path: Path) -> Site:
    """A bot with a fixed port on the node and a note."""
    empty_site.add_bot(docker_url=docker_url, folder=tmp_path, host_port=free_port())
    wait_until_answering(empty_site)
    empty_site.add_note(NOTE)
    probe(empty_site)
    return empty_site


def probe(site: Site) -> Bot:
    """Probe the node and return the bot."""
    probe_node(site.database, site.bot().node_id)
    return site.bot()


def set_policy(site: Site, name: str, retries: int = 0) -> None:
    """Set the restart policy of the bot's container."""
    policy = {"Name": name, "MaximumRetryCount": retries}
    containers.set_restart_policy(site.engine, site.container, policy)


def crash(site: Site) -> None:
    """Kill the process of the bot without the engine, which has to notice that."""
    os.kill(site.engine.inspect_container(site.container)["State"]["Pid"], signal.SIGKILL)
    while site.engine.inspect_container(site.container)["State"]["Running"]:
        time.sleep(0.05)


def leave_down(site: Site) -> None:
    """Leave the container down although its policy asks for a restart, as an engine that crashed does."""
    set_policy(site, "no")
    crash(site)
    set_policy(site, "unless-stopped")


def work(site: Site) -> None:
    """Let a worker start the bot if that is due."""
    with site.database.reading() as session:
        due = [bot_id for bot_id, _ in desired_state.list_pending(session)]
    for bot_id in due:
        apply_desired_state(site.database, bot_id)


def make_due(site: Site) -> None:
    """Let the delay before the next attempt end."""
    with site.database.transaction() as session:
        session.execute(
            sa.update(Bot).where(Bot.restart_requested_at.is_not(None)).values(restart_requested_at=utcnow())
        )


def list_tags(site: Site) -> list[str]:
    """Return the tags of the bot's events about starts, oldest first."""
    with site.database.reading() as session:
        tags = session.scalars(sa.select(Event.tag).where(Event.bot_id == site.bot_id).order_by(Event.id))
        return [tag for tag in tags if "start" in tag]


def test_bot_that_the_engine_left_down_is_started_with_its_data(site: Site) -> None:
    leave_down(site)
    assert probe(site).is_being_started
    work(site)
    wait_until_answering(site)
    assert site.notes() == [NOTE]
    assert site.inspect()["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert (site.bot().restart_requested_at, list_tags(site)) == (None, ["bot.start_requested", "bot.started"])
    work(site)
    assert list_tags(site) == ["bot.start_requested", "bot.started"]


def test_bot_that_runs_again_already_is_not_interrupted(site: Site) -> None:
    leave_down(site)
    probe(site)
    site.engine.start(site.container)
    started_at = site.inspect()["State"]["StartedAt"]
    work(site)
    assert site.inspect()["State"]["StartedAt"] == started_at
    assert (site.bot().is_being_started, site.bot().restart_requested_at) == (False, None)


def test_bot_that_a_person_stopped_with_the_engine_stays_down(site: Site) -> None:
    site.engine.stop(site.container, timeout=1)
    for _ in range(2):
        bot = probe(site)
        assert (bot.state, bot.is_being_started) == (BotState.STOPPED, False)
        work(site)
    assert not site.inspect()["State"]["Running"]
    assert list_tags(site) == []


def forget_events(site: Site) -> None:
    """Let other things happen until the engine has forgotten what happened to the bot."""
    repository = f"{site.images.repository}-busy"
    for _ in range(260):
        site.engine.tag(site.images.reference(FIRST), repository, "busy", force=True)
    site.engine.remove_image(f"{repository}:busy", noprune=True)


def test_bot_that_a_person_stopped_stays_down_when_a_busy_engine_has_forgotten_that(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopped_containers, "_START_SECONDS", 0.0)
    host = site.engine.create_host_config(network_mode="none")
    image, labels = site.images.reference(FIRST), dict(site.labels)
    other = site.engine.create_container(image, host_config=host, labels=labels)["Id"]
    site.engine.start(other)  # it runs since before the stop, and so does the engine
    site.engine.stop(site.container, timeout=1)
    forget_events(site)
    try:
        assert not probe(site).is_being_started
    finally:
        site.engine.remove_container(other, force=True, v=True)


@pytest.mark.parametrize(("policy", "retries", "starts"), [("no", 0, False), ("on-failure", 3, True)])
def test_bot_that_crashes_is_restarted_as_its_policy_says(
    site: Site, policy: str, retries: int, *, starts: bool
) -> None:
    leave_down(site)
    set_policy(site, policy, retries)
    assert probe(site).is_being_started is starts


def test_update_waits_for_a_bot_that_the_engine_left_down(site: Site) -> None:
    site.images.digest(SECOND)
    leave_down(site)
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.skip_reason) == (UpdateState.SKIPPED, SkipReason.STOPPED)
    assert site.bot().is_being_started
    assert orchestrator.tick(site.database, utcnow(), None) == []
    assert site.update(update_id).state is UpdateState.PENDING

    work(site)
    wait_until_answering(site)
    assert probe(site).state is BotState.RUNNING
    (due,) = orchestrator.tick(site.database, utcnow(), None)
    update_bot(site.database, site.settings, due.update_id)
    update = site.update(update_id)
    assert (due.update_id, update.state, update.error) == (update_id, UpdateState.UPDATED, None)
    wait_until_answering(site)
    assert site.notes() == [NOTE]


@pytest.fixture
def blocker(site: Site) -> Iterator[str]:
    """Another container on the bot's port, while the bot is down."""
    port = int(site.address().rpartition(":")[2])
    leave_down(site)
    host = site.engine.create_host_config(port_bindings={3100: ("127.0.0.1", port)})
    image = site.images.reference(FIRST)
    created = site.engine.create_container(image, ports=[3100], host_config=host, labels=dict(site.labels))["Id"]
    site.engine.start(created)
    yield created
    site.engine.remove_container(created, force=True, v=True)


def test_bot_whose_port_is_taken_is_started_when_it_is_free(site: Site, blocker: str) -> None:
    probe(site)
    for _ in range(2):
        work(site)
        make_due(site)
    bot = probe(site)
    assert (bot.state, bot.is_being_started) == (BotState.STOPPED, True)
    assert "port is already allocated" in (bot.state_detail or "")
    assert "restart the Docker engine of the node" in (bot.state_detail or "")
    assert list_tags(site) == ["bot.start_requested", "bot.start_failed"]

    site.engine.stop(blocker, timeout=0)
    work(site)
    wait_until_answering(site)
    assert site.notes() == [NOTE]
    assert list_tags(site) == ["bot.start_requested", "bot.start_failed", "bot.started"]


def test_failed_start_is_not_repeated_before_its_delay(site: Site, blocker: str, monkeypatch: Any) -> None:
    assert blocker
    probe(site)
    work(site)
    monkeypatch.setattr(containers, "start", cast("Any", None))
    work(site)
    due = site.bot().restart_requested_at
    assert due is not None
    assert due > utcnow()
