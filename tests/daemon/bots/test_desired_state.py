"""The job that applies the desired state of a bot: stop, start, and wait for other work."""

from typing import Any, Literal, cast

import pytest

from daemon.bot_lease import BotLease
from daemon.bots.desired_state import apply_desired_state
from demo.versions import SECOND
from portal.models import Bot, BotState, BotUpdate, DesiredState, UpdateState
from portal.services.bots import desired_state
from tests.support.site import NOTE, Site, wait_until_answering

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def request(site: Site, state: DesiredState) -> None:
    """Set the desired state of the bot, as the portal does."""
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).desired_state = state


def pending(site: Site) -> list[str]:
    """Return the bots for which the scheduler enqueues a job."""
    with site.database.reading() as session:
        return [bot_id for bot_id, _ in desired_state.list_pending(session)]


def is_running(site: Site) -> bool:
    """Return whether the bot's container runs."""
    return bool(site.engine.inspect_container(str(site.bot().container_id))["State"]["Running"])


def set_policy(site: Site, name: Literal["always", "no"]) -> None:
    """Set the restart policy of the bot's container."""
    policy = {"Name": name, "MaximumRetryCount": 0}
    site.engine.update_container(str(site.bot().container_id), restart_policy=cast("Any", policy))


def restart_policy(site: Site) -> str:
    """Return the name of the restart policy of the bot's container."""
    return str(site.engine.inspect_container(str(site.bot().container_id))["HostConfig"]["RestartPolicy"]["Name"])


def test_stopped_bot_stays_stopped_and_starts_with_its_restart_policy(site: Site) -> None:
    set_policy(site, "always")
    request(site, DesiredState.STOPPED)
    assert pending(site) == [site.bot_id]

    apply_desired_state(site.database, site.bot_id)
    bot = site.bot()
    assert not is_running(site)
    # With another policy the engine would start the container when the engine restarts.
    assert restart_policy(site) == "no"
    assert (bot.applied_state, bot.state) == (DesiredState.STOPPED, BotState.STOPPED)
    assert pending(site) == []

    request(site, DesiredState.RUNNING)
    apply_desired_state(site.database, site.bot_id)
    wait_until_answering(site)
    assert site.notes() == [NOTE]
    assert restart_policy(site) == "always"
    assert (site.bot().applied_state, pending(site)) == (DesiredState.RUNNING, [])


def test_interrupted_stop_keeps_the_first_restart_policy(site: Site) -> None:
    set_policy(site, "always")
    request(site, DesiredState.STOPPED)
    with site.database.transaction() as session:
        desired_state.save_restart_policy(session, site.bot_id, {"Name": "always", "MaximumRetryCount": 0})
    set_policy(site, "no")

    apply_desired_state(site.database, site.bot_id)
    request(site, DesiredState.RUNNING)
    apply_desired_state(site.database, site.bot_id)
    assert restart_policy(site) == "always"


def test_desired_state_waits_for_the_lease(site: Site) -> None:
    request(site, DesiredState.STOPPED)
    with BotLease(site.database, site.bot_id):
        assert pending(site) == []
        apply_desired_state(site.database, site.bot_id)
        assert is_running(site)
    assert pending(site) == [site.bot_id]


@pytest.mark.parametrize("state", [UpdateState.RUNNING, UpdateState.UPDATED])
def test_desired_state_waits_for_an_unfinished_update(site: Site, state: UpdateState) -> None:
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        # An update that ended is unfinished until the new container has the restart policy of the old one.
        session.get_one(BotUpdate, update_id).state = state
    request(site, DesiredState.STOPPED)
    assert pending(site) == []
    apply_desired_state(site.database, site.bot_id)
    assert is_running(site)


def test_bot_without_a_container_becomes_missing(site: Site) -> None:
    site.engine.remove_container(str(site.bot().container_id), force=True)
    request(site, DesiredState.STOPPED)
    apply_desired_state(site.database, site.bot_id)
    assert (site.bot().state, pending(site)) == (BotState.MISSING, [])
