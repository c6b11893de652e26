"""The life of a bot with two workers that are killed at random moments, while operators change their minds."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from daemon.bots.create import create
from daemon.bots.desired_state import apply_desired_state
from daemon.bots.purge import purge
from daemon.engine import containers
from portal.models import Bot, BotPhase, DesiredState, utcnow
from portal.rules.allowlist import Allowlist
from portal.services import fleet_settings
from portal.services.bots import creation, desired_state, removal, start_stop
from portal.services.bots.start_stop import Operation
from portal.services.errors import ConflictError
from tests import factories
from tests.daemon.bots.nursery import Nursery, add_nursery
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow, pytest.mark.processes]

KILLS = 20


@pytest.fixture
def nursery(empty_site: Site, docker_url: str, tmp_path: Path) -> Iterator[Nursery]:
    """A bot that waits for its container."""
    nursery = add_nursery(empty_site, docker_url, tmp_path)
    yield nursery
    nursery.remove()


def work_once(nursery: Nursery) -> None:
    """Run every job that concerns the bot, as a worker does."""
    create(nursery.database, nursery.settings, nursery.bot_id)
    apply_desired_state(nursery.database, nursery.bot_id)
    purge(nursery.database, nursery.settings, nursery.bot_id, utcnow())


def start_worker(nursery: Nursery) -> int:
    """Start a process that runs the jobs again and again, and return its id."""
    child = os.fork()
    if child == 0:
        while True:
            with suppress(Exception):
                work_once(nursery)
            time.sleep(0.02)
    return child


def change_mind(nursery: Nursery, dice: random.Random) -> None:
    """Do one of the things that operators and customers can do. A refusal is fine."""
    with suppress(ConflictError), nursery.database.transaction() as session:
        bot = session.get_one(Bot, nursery.bot_id)
        match dice.choice(["retry", "remove", "restore", "start", "stop", "restart"]):
            case "retry":
                factories.bot_template(session, pids_limit=dice.randrange(50, 500))
                allowlist = Allowlist.parse(nursery.settings.fleet_image_allowlist)
                creation.retry_creation(session, allowlist, bot, now=utcnow(), actor=None)
            case "remove":
                removal.request_removal(session, bot, keep_data=dice.random() < 0.5, now=utcnow(), actor=None)
            case "restore":
                removal.restore_bot(session, bot, now=utcnow(), actor=None)
            case operation:
                start_stop.request(session, bot, Operation(operation), now=utcnow(), actor=None)


def settle(nursery: Nursery) -> Bot:
    """Want the bot to run, and let one worker work until nothing is left to do."""
    with suppress(ConflictError), nursery.database.transaction() as session:
        removal.restore_bot(session, session.get_one(Bot, nursery.bot_id), now=utcnow(), actor=None)
    with suppress(ConflictError), nursery.database.transaction() as session:
        bot = session.get_one(Bot, nursery.bot_id)
        start_stop.request(session, bot, Operation.START, now=utcnow(), actor=None)
    for _ in range(20):
        nursery.make_due()
        work_once(nursery)
        with nursery.database.reading() as session:
            bot = session.get_one(Bot, nursery.bot_id)
            if bot.phase is BotPhase.ACTIVE and desired_state.pending_change(session, nursery.bot_id) is None:
                return bot
    raise AssertionError(f"the bot is {bot.phase}: {bot.creation_error}")


def list_containers(nursery: Nursery) -> list[str]:
    """Return the ids of all containers of the bot."""
    with nursery.database.reading() as session:
        install = fleet_settings.get_settings(session).install_id
    return containers.list_for_bot(nursery.site.engine, install, nursery.bot_id)


@pytest.mark.parametrize("seed", range(2))
def test_killed_workers_and_changed_minds_end_with_one_running_bot(nursery: Nursery, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    workers = [start_worker(nursery) for _ in range(2)]
    try:
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.05, 1.2))
            change_mind(nursery, dice)
            victim = workers.pop(0)
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            # The lease of the dead worker would expire after 30 seconds. That of the other one is renewed or lost.
            nursery.make_due()
            workers.append(start_worker(nursery))
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
    bot = settle(nursery)
    found = nursery.inspect()
    assert found is not None
    assert list_containers(nursery) == [bot.container_id] == [found["Id"]]
    assert (found["State"]["Running"], bot.applied_state) == (True, DesiredState.RUNNING)
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert len(nursery.volumes()) == 2

    with nursery.database.transaction() as session:
        bot = session.get_one(Bot, nursery.bot_id)
        removal.request_removal(session, bot, keep_data=False, immediately=True, now=utcnow(), actor=None)
    work_once(nursery)
    assert nursery.site.bot().phase is BotPhase.REMOVED
    assert (list_containers(nursery), nursery.volumes()) == ([], [])
