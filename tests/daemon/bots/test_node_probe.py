"""The job that probes the bots of a node: recorded states, busy bots, nodes that do not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from daemon.bots import node_probe
from daemon.bots.node_probe import probe_node
from demo.processes import free_port
from demo.versions import SECOND, UNHEALTHY
from portal.database import Database
from portal.models import Bot, BotState, BotUpdate, Event, Node, NodeState, Step, UpdateState
from portal.services.bots import leases
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def probe_and_load(site: Site) -> Bot:
    """Probe the node and return the bot afterwards."""
    probe_node(site.database, site.bot().node_id)
    return site.bot()


def list_tags(database: Database) -> list[str]:
    """Return the tags of all events with the new state, oldest first."""
    with database.reading() as session:
        return [
            f"{event.tag} {event.data['new']}" if "new" in event.data else event.tag
            for event in session.scalars(sa.select(Event).order_by(Event.id))
        ]


def load_node(site: Site) -> Node:
    """Return the current row of the node."""
    with site.database.reading() as session:
        return session.get_one(Node, site.bot().node_id)


@contextmanager
def change(site: Site) -> Iterator[Bot]:
    """Change the bot's row."""
    with site.database.transaction() as session:
        yield session.get_one(Bot, site.bot_id)


def test_healthy_bot_is_running(site: Site) -> None:
    bot = probe_and_load(site)

    assert (bot.state, bot.state_detail) == (BotState.RUNNING, None)
    assert f"http://{bot.address}" == site.address()
    assert bot.checked_at is not None
    assert load_node(site).last_seen_at is not None
    assert list_tags(site.database) == ["bot.state_changed running"]

    before = bot.checked_at
    bot = probe_and_load(site)
    assert bot.checked_at is not None
    assert bot.checked_at > before
    assert list_tags(site.database) == ["bot.state_changed running"]


def test_state_follows_the_container(site: Site) -> None:
    first = probe_and_load(site)
    site.engine.stop(site.container, timeout=0)
    stopped = probe_and_load(site)
    assert stopped.state is BotState.STOPPED
    assert stopped.state_since != first.state_since
    assert stopped.address == first.address

    site.engine.start(site.container)
    again = probe_and_load(site)
    while again.state is BotState.UNHEALTHY:  # it is still starting
        again = probe_and_load(site)
    assert again.state is BotState.RUNNING
    assert f"http://{again.address}" == site.address()

    with change(site) as bot:
        bot.container_id = "0" * 64
    missing = probe_and_load(site)
    assert missing.state is BotState.MISSING
    assert missing.state_detail is not None
    recorded = [tag for tag in list_tags(site.database) if tag != "bot.state_changed unhealthy"]
    assert recorded == [f"bot.state_changed {state}" for state in ("running", "stopped", "running", "missing")]


def test_bot_that_reports_an_error_is_unhealthy(empty_site: Site, docker_url: str) -> None:
    empty_site.add_bot(UNHEALTHY, docker_url)
    bot = probe_and_load(empty_site)

    assert bot.state is BotState.UNHEALTHY
    assert bot.state_detail


def test_bot_with_a_closed_port_is_unhealthy(site: Site) -> None:
    with change(site) as bot:
        bot.port = 4000
    found = probe_and_load(site)
    assert (found.state, found.state_detail) == (
        BotState.UNHEALTHY,
        "Health check failed: no answer: Connection refused",
    )


@pytest.mark.parametrize("work", ["update", "lease"])
def test_busy_bot_is_not_probed(site: Site, work: str) -> None:
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        if work == "update":
            update = session.get_one(BotUpdate, update_id)
            update.state, update.step = UpdateState.RUNNING, Step.START
        else:
            leases.acquire(session, site.bot_id, "another process")
    site.engine.stop(site.container, timeout=0)

    assert probe_and_load(site).state is BotState.UNKNOWN
    assert list_tags(site.database) == []


def test_observation_is_dropped_when_the_container_has_changed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    probe_bots = node_probe._probe_bots

    def probe_before_a_change(*arguments: object) -> object:
        observed = probe_bots(*arguments)  # type: ignore[arg-type]
        with change(site) as bot:
            bot.container_id = "f" * 64
        return observed

    monkeypatch.setattr(node_probe, "_probe_bots", probe_before_a_change)

    assert probe_and_load(site).state is BotState.UNKNOWN


def test_node_that_does_not_answer_is_offline_until_it_answers(site: Site) -> None:
    bot = probe_and_load(site)
    url = load_node(site).docker_url
    with change(site) as row:
        row.node.docker_url = f"tcp://127.0.0.1:{free_port()}"

    assert probe_and_load(site).state is bot.state
    offline = load_node(site)
    assert offline.state is NodeState.OFFLINE
    assert "does not answer" in str(offline.last_error)
    probe_and_load(site)

    with change(site) as row:
        row.node.docker_url = url
    probe_and_load(site)
    online = load_node(site)
    assert (online.state, online.last_error) == (NodeState.ACTIVE, None)
    assert list_tags(site.database) == ["bot.state_changed running", "node.offline", "node.online"]


def test_draining_node_stays_draining(site: Site) -> None:
    with change(site) as row:
        row.node.state = NodeState.DRAINING
    probe_and_load(site)
    assert load_node(site).state is NodeState.DRAINING


def test_unknown_node_is_ignored(site: Site) -> None:
    probe_node(site.database, "gone")
    assert list_tags(site.database) == []
    assert site.bot().checked_at is None
