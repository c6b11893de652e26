"""Attaching a container to a bot whose own container is gone."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from daemon.bot_lease import BotLease
from daemon.bots.attach import attach
from daemon.bots.inspection import AdoptOptions
from daemon.engine import containers
from daemon.snapshots import helper_containers
from demo.versions import SECOND
from portal.models import Bot, BotState, BotUpdate, DesiredState, Event, OrgState, UpdateState
from portal.services.bots import attention
from portal.services.bots.leases import BotBusy
from portal.services.errors import ConflictError, NotFoundError
from tests.daemon.bots.adoption import Start, adopt_container, describe
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]


@pytest.fixture
def lost_bot(empty_node: Site, start: Start) -> Bot:
    """A bot that Flotilla stopped and whose container was then removed by hand."""
    bot: Bot = adopt_container(
        empty_node, start(volumes=["/paperclip"]), AdoptOptions(name="Desk", subdomain="desk")
    ).bot
    helper_containers.remove_helper(empty_node.engine, str(bot.container_id))
    with empty_node.database.transaction() as session:
        row = session.get_one(Bot, bot.id)
        row.state, row.state_detail = BotState.MISSING, "The container is gone from the node"
        row.applied_state, row.restart_policy = DesiredState.STOPPED, {"Name": "always"}
        row.needs_attention = "docker start it"
    return bot


def test_bot_whose_container_is_gone_continues_in_another(empty_node: Site, start: Start, lost_bot: Bot) -> None:
    empty_node.images.digest(SECOND)
    container = start(f"{empty_node.images.repository}:{SECOND.version}", environment={"API_KEY": "secret"})
    before = describe(empty_node, container)

    attached = attach(empty_node.database, empty_node.settings, "desk", container)

    assert describe(empty_node, container) == before
    with empty_node.database.transaction() as session:
        bot = session.get_one(Bot, lost_bot.id)
        assert (bot.container_id, bot.container_name) == (container, containers.name_of_container(before))
        assert (bot.name, bot.subdomain, bot.image) == ("Desk", "desk", lost_bot.image)
        assert bot.current_digest == empty_node.images.digest(SECOND)
        assert bot.address == f"127.0.0.1:{before['NetworkSettings']['Ports']['3100/tcp'][0]['HostPort']}"
        assert bot.state in {BotState.RUNNING, BotState.UNHEALTHY}  # it may still be starting
        assert (bot.state_detail, bot.restart_policy) == (None, None)
        assert bot.applied_state is DesiredState.RUNNING
        assert bot.epoch == lost_bot.epoch + 1
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.attached")).one()
        assert (event.bot_id, event.data["new_container_id"]) == (lost_bot.id, container)
        # Before, the bot could not be cleared, because it was missing.
        attention.clear_attention(session, bot, "created again", actor=None)
    [warning] = [warning for warning in attached.warnings if "does not mount" in warning]
    assert all(mount["Name"] in warning for mount in lost_bot.spec["container"]["Mounts"])


def test_container_that_cannot_be_adopted_or_replaces_an_existing_one_is_refused(
    empty_node: Site, start: Start, lost_bot: Bot
) -> None:
    def try_to_attach(container: str, name: str = "desk") -> None:
        attach(empty_node.database, empty_node.settings, name, container)

    other = adopt_container(empty_node, start()).bot
    with pytest.raises(ConflictError, match="it is the bot"):
        try_to_attach(str(other.container_id))
    with pytest.raises(ConflictError, match="still exists"):
        try_to_attach(start(), other.subdomain)
    with pytest.raises(ConflictError, match="Start it first"):
        try_to_attach(start(running=False))
    with pytest.raises(NotFoundError):
        try_to_attach("nothing")
    with BotLease(empty_node.database, lost_bot.id), pytest.raises(BotBusy):
        try_to_attach(start())
    with empty_node.database.transaction() as session:
        session.get_one(Bot, lost_bot.id).org.state = OrgState.DELETING
    with pytest.raises(ConflictError, match="is being deleted"):
        try_to_attach(start())
    with empty_node.database.reading() as session:
        assert session.get_one(Bot, lost_bot.id).container_id == lost_bot.container_id


def test_attaching_waits_for_a_conflicting_update(empty_node: Site, start: Start, lost_bot: Bot) -> None:
    empty_node.bot_id = lost_bot.id
    update_id, container = empty_node.update_to(SECOND), start()
    for state, old in ((UpdateState.RUNNING, None), (UpdateState.UPDATED, container)):
        with empty_node.database.transaction() as session:
            update = session.get_one(BotUpdate, update_id)
            update.state, update.old_container_id = state, old
        with pytest.raises(ConflictError, match="is not finished"):
            attach(empty_node.database, empty_node.settings, "desk", container)
    # Another container can be attached although the cleanup of the update is pending.
    assert attach(empty_node.database, empty_node.settings, "desk", start()).bot.id == lost_bot.id
