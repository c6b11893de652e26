"""What may change while a bot is created: template, allowlist, release, node, and the bot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.bots import new_container
from daemon.engine import containers
from demo.versions import CRASHING, FIRST, SECOND
from portal.models import Bot, BotPhase, Node, NodeState, utcnow
from portal.rules.allowlist import Allowlist
from portal.services.bots import creation, creation_progress
from tests import factories
from tests.daemon.bots.nursery import Nursery, add_nursery
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]

AFTER_THE_CONTAINER = 14
"""The call of a worker after which the container exists."""


@pytest.fixture
def nursery(empty_site: Site, docker_url: str, tmp_path: Path) -> Iterator[Nursery]:
    """A bot that waits for its container."""
    nursery = add_nursery(empty_site, docker_url, tmp_path)
    yield nursery
    nursery.remove()


def retry_with(nursery: Nursery, **values: Any) -> None:
    """Change the template and try again, as an operator does."""
    with nursery.database.transaction() as session:
        factories.bot_template(session, **values)
        bot = session.get_one(Bot, nursery.bot_id)
        allowlist = Allowlist.parse(nursery.settings.fleet_image_allowlist)
        creation.retry_creation(session, allowlist, bot, now=utcnow(), actor=None)


def set_engine(nursery: Nursery, url: str) -> str:
    """Change the address of the node's engine, and return the former one."""
    with nursery.database.transaction() as session:
        node = session.query(Node).one()
        former, node.docker_url = node.docker_url, url
        return former


def do_once_before(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, action: Callable[[], None]) -> None:
    """Let something happen right before the worker calls a function for the first time."""
    original = getattr(module, name)

    def act(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(module, name, original)
        action()
        return original(*args, **options)

    monkeypatch.setattr(module, name, act)


def test_container_with_outdated_settings_does_not_become_the_bot(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_once_before(
        monkeypatch, containers, "start", lambda: retry_with(nursery, pids_limit=77, health_path="/health?new")
    )
    bot = nursery.create()
    assert (bot.phase, nursery.inspect(), bot.creation_error) == (BotPhase.CREATING, None, None)
    bot = nursery.create()
    found = nursery.inspect()
    assert found is not None
    assert (bot.phase, found["HostConfig"]["PidsLimit"]) == (BotPhase.ACTIVE, 77)


def test_failure_of_an_outdated_attempt_does_not_delay_the_next_one(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    nursery.point_tag_at(CRASHING)
    do_once_before(monkeypatch, containers, "log_tail", lambda: retry_with(nursery, pids_limit=77))
    bot = nursery.create()
    assert (bot.creation_error, bot.creation_attempts) == (None, 0)
    with nursery.database.reading() as session:
        assert creation_progress.list_due(session, utcnow(), repeated=False) == [nursery.bot_id]


def test_container_of_a_dead_worker_does_not_start_once_its_image_is_forbidden(nursery: Nursery) -> None:
    assert nursery.kill_worker_at(AFTER_THE_CONTAINER)
    assert nursery.inspect() is not None
    nursery.make_due()
    nursery.site.settings = nursery.site.with_settings(fleet_image_allowlist=("other.example",))
    bot = nursery.create()
    assert (bot.phase, nursery.inspect()) == (BotPhase.CREATING, None)
    assert "FLEET_IMAGE_ALLOWLIST" in str(bot.creation_error)


def test_container_of_a_dead_worker_with_another_release_is_replaced(nursery: Nursery) -> None:
    assert nursery.kill_worker_at(AFTER_THE_CONTAINER)
    nursery.make_due()
    nursery.point_tag_at(SECOND)
    bot = nursery.create()
    assert (bot.phase, bot.current_digest) == (BotPhase.ACTIVE, nursery.site.images.digest(SECOND))


def test_creation_waits_while_its_node_is_drained(nursery: Nursery) -> None:
    def set_state(state: NodeState) -> None:
        with nursery.database.transaction() as session:
            session.query(Node).one().state = state

    set_state(NodeState.DRAINING)
    assert (nursery.create().phase, nursery.inspect()) == (BotPhase.CREATING, None)
    with nursery.database.reading() as session:
        assert creation_progress.list_due(session, utcnow(), repeated=False) == []
    set_state(NodeState.ACTIVE)
    assert nursery.create().phase is BotPhase.ACTIVE


def test_secrets_in_the_log_of_a_bot_are_hidden_from_operators(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = nursery.site.bot().provision_secret["current"]
    monkeypatch.setattr(containers, "log_tail", lambda *_: f"TOKEN=s3cret-token, PROVISION_SECRET={secret}, x=1")
    nursery.point_tag_at(CRASHING)
    error = str(nursery.create().creation_error)
    assert "TOKEN=***, PROVISION_SECRET=***, x=1" in error
    nursery.point_tag_at(FIRST)


def test_the_end_of_a_long_log_begins_with_a_whole_line(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "log_tail", lambda *_: "\n".join(f"line {number:03}" for number in range(900)))
    nursery.point_tag_at(CRASHING)
    _, title, *lines = str(nursery.create().creation_error).splitlines()
    assert (title, lines[0], lines[-1]) == ("Last lines of the log:", "line 789", "line 899")
    nursery.point_tag_at(FIRST)


@pytest.mark.parametrize("values", [{"cpu_millis": 1_024_000}, {"volumes": ["/proc"]}])
def test_settings_that_the_engine_refuses_leave_a_reason_and_nothing_else(
    nursery: Nursery, values: dict[str, Any]
) -> None:
    retry_with(nursery, **values)
    bot = nursery.create()
    assert (bot.phase, nursery.inspect(), nursery.volumes()) == (BotPhase.CREATING, None, [])
    assert bot.creation_error


def test_engine_that_does_not_answer_leaves_a_reason_and_the_creation_continues(nursery: Nursery) -> None:
    assert nursery.kill_worker_at(AFTER_THE_CONTAINER)
    nursery.make_due()
    url = set_engine(nursery, "unix:///nonexistent/docker.sock")
    assert "does not answer" in str(nursery.create().creation_error)
    set_engine(nursery, url)
    nursery.make_due()
    assert nursery.create().phase is BotPhase.ACTIVE


def test_volumes_of_a_failed_attempt_are_removed(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine refuses the container after the volumes were created."""
    monkeypatch.setattr(new_container, "build_config", lambda *_: {"Image": "sha256:" + "0" * 64})
    assert nursery.create().creation_error is not None
    assert nursery.volumes() == []
