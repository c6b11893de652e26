"""The job that applies the desired state of a bot: stop, start, and wait for other work."""

from datetime import datetime
from typing import Any, Literal, cast

import pytest
import sqlalchemy as sa

from daemon.bot_lease import BotLease
from daemon.bots.desired_state import apply_desired_state
from daemon.engine import containers
from demo.versions import SECOND
from portal.models import Bot, BotState, BotUpdate, DesiredState, Event, UpdateState, utcnow
from portal.services import fleet_settings
from portal.services.bots import desired_state, start_stop
from portal.services.bots.start_stop import Operation
from tests.support.site import NOTE, Site, wait_until_answering

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def request(site: Site, state: DesiredState) -> None:
    """Set the desired state of the bot, as the portal does."""
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).desired_state = state


def request_restart(site: Site) -> datetime:
    """Request a restart, as the portal does."""
    with site.database.transaction() as session:
        start_stop.request(session, session.get_one(Bot, site.bot_id), Operation.RESTART, now=utcnow(), actor=None)
        requested = session.get_one(Bot, site.bot_id).restart_requested_at
        assert requested is not None
        return requested


def started_at(site: Site) -> str:
    """Return when the bot's container was started last."""
    return str(site.engine.inspect_container(str(site.bot().container_id))["State"]["StartedAt"])


def list_tags(site: Site) -> list[str]:
    """Return the tags of the events about starts and stops, oldest first."""
    with site.database.reading() as session:
        tags = session.scalars(sa.select(Event.tag).where(Event.bot_id == site.bot_id).order_by(Event.id))
        return [tag for tag in tags if "start" in tag or "stop" in tag]


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


def test_restart_stops_and_starts_the_container_once_with_its_policy(site: Site) -> None:
    set_policy(site, "always")
    before = started_at(site)
    request_restart(site)
    assert pending(site) == [site.bot_id]
    apply_desired_state(site.database, site.bot_id)
    wait_until_answering(site)
    after = started_at(site)
    assert after > before
    assert (restart_policy(site), site.notes()) == ("always", [NOTE])
    assert (site.bot().restart_requested_at, pending(site)) == (None, [])
    apply_desired_state(site.database, site.bot_id)
    assert started_at(site) == after
    assert list_tags(site) == ["bot.restart_requested", "bot.restarted"]


def test_worker_that_dies_in_the_middle_of_a_restart_leaves_a_start_to_do(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_args: Any) -> None:
        raise SystemExit  # like SIGKILL, it is not handled

    request_restart(site)
    with monkeypatch.context() as patches:
        patches.setattr(containers, "start", die)
        with pytest.raises(SystemExit):
            apply_desired_state(site.database, site.bot_id)
    bot = site.bot()
    assert (is_running(site), bot.state, bot.is_being_started) == (False, BotState.STOPPED, True)
    assert pending(site) == [site.bot_id]
    apply_desired_state(site.database, site.bot_id)
    bot = site.bot()
    assert (is_running(site), bot.state, pending(site)) == (True, BotState.RUNNING, []), "healthy without a probe"
    assert list_tags(site) == ["bot.restart_requested", "bot.started"]


def test_started_bot_has_the_address_of_its_container_at_once(site: Site) -> None:
    for operation in (Operation.RESTART, Operation.STOP, Operation.START):
        with site.database.transaction() as session:
            bot = session.get_one(Bot, site.bot_id)
            # Another container may have it by now.
            bot.address = "127.0.0.1:1"
            start_stop.request(session, bot, operation, now=utcnow(), actor=None)
        apply_desired_state(site.database, site.bot_id)
        if operation is not Operation.STOP:
            assert f"http://{site.bot().address}" == site.address()


def test_restart_that_was_requested_during_a_restart_is_done_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    start = containers.start

    def request_again(*args: Any) -> None:
        monkeypatch.setattr(containers, "start", start)
        start(*args)
        request_restart(site)

    monkeypatch.setattr(containers, "start", request_again)
    request_restart(site)
    apply_desired_state(site.database, site.bot_id)
    assert pending(site) == [site.bot_id]
    apply_desired_state(site.database, site.bot_id)
    assert pending(site) == []


def test_start_of_a_stopped_bot_includes_its_restart(site: Site) -> None:
    request_restart(site)
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).applied_state = DesiredState.STOPPED
    apply_desired_state(site.database, site.bot_id)
    assert pending(site) == []
    assert list_tags(site) == ["bot.restart_requested", "bot.started"]


def test_cancelled_stop_of_a_dead_worker_is_undone(site: Site) -> None:
    """The worker died after it stopped the container, before it recorded that. Then the stop was cancelled."""
    set_policy(site, "always")
    request(site, DesiredState.STOPPED)
    with site.database.transaction() as session:
        desired_state.save_restart_policy(session, site.bot_id, {"Name": "always", "MaximumRetryCount": 0})
    set_policy(site, "no")
    site.engine.stop(str(site.bot().container_id), timeout=0)
    request(site, DesiredState.RUNNING)

    assert pending(site) == [site.bot_id]
    apply_desired_state(site.database, site.bot_id)
    assert (is_running(site), restart_policy(site), pending(site)) == (True, "always", [])


def test_stop_includes_containers_that_a_failed_rollback_left_running(site: Site) -> None:
    with site.database.transaction() as session:
        install = fleet_settings.get_settings(session).install_id
        session.get_one(Bot, site.bot_id).needs_attention = "docker start 1234"
    image = site.engine.inspect_container(str(site.bot().container_id))["Image"]
    labels = {"flotilla.install": install, "flotilla.bot": site.bot_id}
    left = site.engine.create_container(image, labels=labels)["Id"]
    foreign = site.engine.create_container(image, labels={**labels, "flotilla.install": "another"})["Id"]
    try:
        site.engine.start(left)
        site.engine.start(foreign)
        request(site, DesiredState.STOPPED)
        apply_desired_state(site.database, site.bot_id)
        running = [site.engine.inspect_container(found)["State"]["Running"] for found in (left, foreign)]
        assert (is_running(site), running) == (False, [False, True])
        request(site, DesiredState.RUNNING)
        apply_desired_state(site.database, site.bot_id)
        assert not is_running(site), "its data may be incomplete"
    finally:
        for found in (left, foreign):
            site.engine.remove_container(found, force=True, v=True)
