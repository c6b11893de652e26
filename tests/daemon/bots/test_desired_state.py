"""A worker stops and starts a bot as people want it, and nobody else disturbs it meanwhile."""

from typing import Any, Literal, cast

import pytest

from daemon.bot_lease import BotLease
from daemon.bots.desired_state import apply_desired_state
from demo.versions import SECOND
from portal.models import Bot, BotState, BotUpdate, DesiredState, UpdateState
from portal.services.bots import desired_state
from tests.support.site import NOTE, Site, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def want(site: Site, state: DesiredState) -> None:
    """Wish something of the bot, as the portal does."""
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).desired_state = state


def unmet(site: Site) -> list[str]:
    """The bots for which the scheduler asks a worker."""
    with site.database.reading() as session:
        return [bot_id for bot_id, _ in desired_state.list_pending(session)]


def is_running(site: Site) -> bool:
    """Whether the bot's container runs, as the engine says."""
    return bool(site.engine.inspect_container(str(site.bot().container_id))["State"]["Running"])


def set_policy(site: Site, name: Literal["always", "no"]) -> None:
    """Say what the engine does when the container ends."""
    policy = {"Name": name, "MaximumRetryCount": 0}
    site.engine.update_container(str(site.bot().container_id), restart_policy=cast("Any", policy))


def restart_policy(site: Site) -> str:
    """What the engine does when the container ends."""
    return str(site.engine.inspect_container(str(site.bot().container_id))["HostConfig"]["RestartPolicy"]["Name"])


def test_a_bot_is_stopped_for_good_and_comes_back_as_it_was(site: Site) -> None:
    set_policy(site, "always")
    want(site, DesiredState.STOPPED)
    assert unmet(site) == [site.bot_id]

    apply_desired_state(site.database, site.bot_id)
    bot = site.bot()
    assert not is_running(site)
    # The engine would start it again when it is itself started again.
    assert restart_policy(site) == "no"
    assert (bot.applied_state, bot.state) == (DesiredState.STOPPED, BotState.STOPPED)
    assert unmet(site) == []

    want(site, DesiredState.RUNNING)
    apply_desired_state(site.database, site.bot_id)
    wait_for(site)
    assert site.notes() == [NOTE]
    assert restart_policy(site) == "always"
    assert (site.bot().applied_state, unmet(site)) == (DesiredState.RUNNING, [])


def test_a_worker_that_died_half_way_is_followed_by_one_that_remembers_the_first_policy(site: Site) -> None:
    set_policy(site, "always")
    want(site, DesiredState.STOPPED)
    with site.database.transaction() as session:
        desired_state.save_restart_policy(session, site.bot_id, {"Name": "always", "MaximumRetryCount": 0})
    set_policy(site, "no")

    apply_desired_state(site.database, site.bot_id)
    want(site, DesiredState.RUNNING)
    apply_desired_state(site.database, site.bot_id)
    assert restart_policy(site) == "always"


def test_whoever_works_on_the_bot_is_not_disturbed(site: Site) -> None:
    want(site, DesiredState.STOPPED)
    with BotLease(site.database, site.bot_id):
        assert unmet(site) == []
        apply_desired_state(site.database, site.bot_id)
        assert is_running(site)
    assert unmet(site) == [site.bot_id]


@pytest.mark.parametrize("state", [UpdateState.RUNNING, UpdateState.UPDATED])
def test_an_unfinished_update_comes_first(site: Site, state: UpdateState) -> None:
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        # It ended, but nobody has given the new container the policy of the old one yet.
        session.get_one(BotUpdate, update_id).state = state
    want(site, DesiredState.STOPPED)
    assert unmet(site) == []
    apply_desired_state(site.database, site.bot_id)
    assert is_running(site)


def test_a_bot_whose_container_is_gone_is_said_to_be_missing(site: Site) -> None:
    site.engine.remove_container(str(site.bot().container_id), force=True)
    want(site, DesiredState.STOPPED)
    apply_desired_state(site.database, site.bot_id)
    assert (site.bot().state, unmet(site)) == (BotState.MISSING, [])
