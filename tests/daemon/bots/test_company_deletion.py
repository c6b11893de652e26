"""The company of a created bot, from the first sync of its members to the purge of the bot, on a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from daemon.bots.desired_state import apply_desired_state
from daemon.bots.purge import purge
from daemon.provision import sync_jobs
from daemon.provision.client import ProvisionClient
from portal.models import Bot, BotPhase, utcnow
from portal.services.bots import removal
from portal.services.syncs import selection
from tests.daemon.bots.nursery import Nursery, add_nursery
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]


@pytest.fixture
def nursery(empty_site: Site, docker_url: str, tmp_path: Path) -> Iterator[Nursery]:
    """A bot whose container was created and whose owner was sent to it."""
    nursery = add_nursery(empty_site, docker_url, tmp_path)
    bot = nursery.create()
    with nursery.database.reading() as session:
        assert selection.find_due(session, utcnow()).node_ids == [bot.node_id], "the next tick enqueues the sync"
    sync_jobs.sync_node(nursery.database, bot.node_id)
    yield nursery
    nursery.remove()


def list_members(bot: Bot) -> requests.Response:
    """Ask a bot for the members of its company."""
    secret = {"Authorization": f"Bearer {bot.provision_secret['current']}"}
    params = {"companyId": str(bot.company_id)}
    return requests.get(f"http://{bot.address}/internal/members", params=params, headers=secret, timeout=10)


def remove_and_purge(nursery: Nursery, *, keep_data: bool) -> None:
    """Remove the bot without a grace period."""
    with nursery.database.transaction() as session:
        bot = session.get_one(Bot, nursery.bot_id)
        removal.request_removal(session, bot, keep_data=keep_data, immediately=True, now=utcnow(), actor=None)
    apply_desired_state(nursery.database, nursery.bot_id)
    purge(nursery.database, nursery.settings, nursery.bot_id, utcnow())
    assert nursery.site.bot().phase is BotPhase.REMOVED
    assert nursery.inspect() is None


def test_created_bot_has_its_owner_after_the_first_sync(nursery: Nursery) -> None:
    (member,) = list_members(nursery.site.bot()).json()["members"]
    with nursery.database.reading() as session:
        owner_id = session.get_one(Bot, nursery.bot_id).org.owner_id
    assert (member["userId"], member["role"], member["instanceAdmin"]) == (owner_id, "owner", True)


def test_stopped_bot_runs_once_more_to_delete_its_company(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    bot, delete, statuses = nursery.site.bot(), ProvisionClient.delete_company, []

    def delete_and_ask(client: ProvisionClient, company_id: str) -> None:
        statuses.append(list_members(bot).status_code)
        delete(client, company_id)
        statuses.append(list_members(bot).status_code)

    monkeypatch.setattr(ProvisionClient, "delete_company", delete_and_ask)
    remove_and_purge(nursery, keep_data=False)
    assert statuses == [200, 404]
    assert nursery.volumes() == []


def test_bot_whose_data_is_kept_keeps_its_company(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProvisionClient, "delete_company", lambda *_: pytest.fail("the company was deleted"))
    remove_and_purge(nursery, keep_data=True)
    assert len(nursery.volumes()) == 2


def test_bot_that_does_not_start_is_purged_all_the_same(
    nursery: Nursery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.bots.company_deletion._START_SECONDS", 1.0)
    with nursery.database.transaction() as session:
        session.get_one(Bot, nursery.bot_id).health_path = "/nowhere"
    remove_and_purge(nursery, keep_data=False)
    assert "was not deleted before its removal: not healthy after its start" in caplog.text
    assert nursery.volumes() == []
