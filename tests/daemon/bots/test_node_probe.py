"""What is written down of the bots of a node is what was seen, and only when nobody is at work on them."""

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


def probed(site: Site) -> Bot:
    """The bot after one look at its node."""
    probe_node(site.database, site.bot().node_id)
    return site.bot()


def tags(database: Database) -> list[str]:
    """What the log tells, oldest first."""
    with database.reading() as session:
        return [
            f"{event.tag} {event.data['new']}" if "new" in event.data else event.tag
            for event in session.scalars(sa.select(Event).order_by(Event.id))
        ]


def node_of(site: Site) -> Node:
    """The node's row as it is now."""
    with site.database.reading() as session:
        return session.get_one(Node, site.bot().node_id)


@contextmanager
def change(site: Site) -> Iterator[Bot]:
    """Change the bot's row."""
    with site.database.transaction() as session:
        yield session.get_one(Bot, site.bot_id)


def test_a_bot_that_is_well_is_running(site: Site) -> None:
    bot = probed(site)

    assert (bot.state, bot.state_detail) == (BotState.RUNNING, None)
    assert f"http://{bot.address}" == site.address()
    assert bot.checked_at is not None
    assert node_of(site).last_seen_at is not None
    assert tags(site.database) == ["bot.state_changed running"]

    before = bot.checked_at
    bot = probed(site)
    assert bot.checked_at is not None
    assert bot.checked_at > before
    assert tags(site.database) == ["bot.state_changed running"]


def test_states_follow_what_happens_to_the_container(site: Site) -> None:
    first = probed(site)
    site.engine.stop(site.container, timeout=0)
    stopped = probed(site)
    assert stopped.state is BotState.STOPPED
    assert stopped.state_since != first.state_since
    assert stopped.address == first.address

    site.engine.start(site.container)
    again = probed(site)
    while again.state is BotState.UNHEALTHY:  # it is only just starting
        again = probed(site)
    assert again.state is BotState.RUNNING
    assert f"http://{again.address}" == site.address()

    with change(site) as bot:
        bot.container_id = "0" * 64
    missing = probed(site)
    assert missing.state is BotState.MISSING
    assert missing.state_detail is not None
    told = [tag for tag in tags(site.database) if tag != "bot.state_changed unhealthy"]
    assert told == [f"bot.state_changed {state}" for state in ("running", "stopped", "running", "missing")]


def test_a_bot_that_says_it_is_ill_is_unhealthy(empty_site: Site, docker_url: str) -> None:
    empty_site.add_bot(UNHEALTHY, docker_url)
    bot = probed(empty_site)

    assert bot.state is BotState.UNHEALTHY
    assert bot.state_detail


def test_a_port_nobody_listens_on_is_unhealthy_and_says_so(site: Site) -> None:
    with change(site) as bot:
        bot.port = 4000
    found = probed(site)
    assert (found.state, found.state_detail) == (BotState.UNHEALTHY, "no answer: Connection refused")


@pytest.mark.parametrize("work", ["update", "lease"])
def test_a_bot_somebody_is_at_work_on_is_left_alone(site: Site, work: str) -> None:
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        if work == "update":
            update = session.get_one(BotUpdate, update_id)
            update.state, update.step = UpdateState.RUNNING, Step.START
        else:
            leases.acquire(session, site.bot_id, "somebody")
    site.engine.stop(site.container, timeout=0)

    assert probed(site).state is BotState.UNKNOWN
    assert tags(site.database) == []


def test_what_was_seen_before_somebody_took_the_bot_is_not_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = node_probe._look_at_all

    def look_and_be_overtaken(*node: object) -> object:
        seen = look(*node)  # type: ignore[arg-type]
        with change(site) as bot:
            bot.container_id = "f" * 64
        return seen

    monkeypatch.setattr(node_probe, "_look_at_all", look_and_be_overtaken)

    assert probed(site).state is BotState.UNKNOWN


def test_a_node_that_does_not_answer_is_offline_until_it_does(site: Site) -> None:
    bot = probed(site)
    url = node_of(site).docker_url
    with change(site) as row:
        row.node.docker_url = f"tcp://127.0.0.1:{free_port()}"

    assert probed(site).state is bot.state
    offline = node_of(site)
    assert offline.state is NodeState.OFFLINE
    assert "does not answer" in str(offline.last_error)
    probed(site)

    with change(site) as row:
        row.node.docker_url = url
    probed(site)
    online = node_of(site)
    assert (online.state, online.last_error) == (NodeState.ACTIVE, None)
    assert tags(site.database) == ["bot.state_changed running", "node.offline", "node.online"]


def test_a_draining_node_stays_draining(site: Site) -> None:
    with change(site) as row:
        row.node.state = NodeState.DRAINING
    probed(site)
    assert node_of(site).state is NodeState.DRAINING


def test_an_unknown_node_is_nothing_to_look_at(site: Site) -> None:
    probe_node(site.database, "gone")
    assert tags(site.database) == []
    assert site.bot().checked_at is None
