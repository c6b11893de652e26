"""A bot goes for good, with its data, only when its organization's time to be restored is over."""

from datetime import timedelta
from typing import Any

import pytest
from docker.errors import NotFound

from daemon.bot_lease import BotLease
from daemon.bots.desired_state import apply_desired_state
from daemon.bots.purge import purge
from demo.versions import SECOND
from portal.models import Bot, BotState, BotUpdate, Channel, DesiredState, Event, Org, OrgState, UpdateState, utcnow
from portal.services.bots import purging
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]

OVER = -purging.MARGIN - timedelta(seconds=1)


def delete_org(site: Site, grace: timedelta, **bot_values: Any) -> None:
    """Have the organization's deletion asked for, with so much time left, and its bot stopped."""
    with site.database.transaction() as session:
        bot = session.get_one(Bot, site.bot_id)
        bot.org.state, bot.org.delete_after = OrgState.DELETING, utcnow() + grace
        bot.desired_state = DesiredState.STOPPED
    apply_desired_state(site.database, site.bot_id)
    with site.database.transaction() as session:
        bot = session.get_one(Bot, site.bot_id)
        for name, value in bot_values.items():
            setattr(bot, name, value)


def due(site: Site) -> list[str]:
    """The bots for which the scheduler asks a worker."""
    with site.database.reading() as session:
        return [bot_id for bot_id, _ in purging.list_due(session, utcnow())]


def org_of(site: Site) -> Org:
    """The bot's organization after the scheduler's next turn."""
    with site.database.transaction() as session:
        purging.close_deleted_orgs(session, utcnow())
    with site.database.reading() as session:
        return session.get_one(Org, site.bot().org_id)


def has_volume(site: Site, name: str) -> bool:
    """Whether the engine still has it."""
    try:
        site.engine.inspect_volume(name)
    except NotFound:
        return False
    return True


def has_container(site: Site, container: str) -> bool:
    """Whether the engine still has it."""
    try:
        site.engine.inspect_container(container)
    except NotFound:
        return False
    return True


def test_container_and_volumes_go_when_the_grace_is_over(site: Site) -> None:
    container, volumes = str(site.bot().container_id), site.volumes()
    archive = site.leave_archive()
    delete_org(site, OVER)
    assert due(site) == [site.bot_id]
    assert org_of(site).state is OrgState.DELETING

    purge(site.database, site.settings, site.bot_id)
    bot = site.bot()
    assert not has_container(site, container)
    assert [name for name in volumes if has_volume(site, name)] == []
    assert not archive.exists(), "an update that could not be taken back had left it for people"
    assert (bot.container_id, bot.spec, bot.release_channel, bot.state) == (
        None,
        {},
        Channel.PINNED,
        BotState.MISSING,
    )
    with site.database.reading() as session:
        event = session.query(Event).filter_by(tag="bot.removed").one()
        assert sorted(event.data["volumes"]) == sorted(volumes)
    assert due(site) == []
    closed = org_of(site)
    assert closed.state is OrgState.DELETED
    assert closed.deleted_at is not None


@pytest.mark.parametrize(
    ("grace", "values"),
    [
        (timedelta(days=7), {}),
        # Another machine's clock may be a little ahead.
        (timedelta(seconds=-1), {}),
        (OVER, {"needs_attention": "a person must look"}),
        (OVER, {"applied_state": DesiredState.RUNNING}),
    ],
)
def test_nothing_goes_before_its_time(site: Site, grace: timedelta, values: dict[str, Any]) -> None:
    container, volumes = str(site.bot().container_id), site.volumes()
    delete_org(site, grace, **values)
    assert due(site) == []
    purge(site.database, site.settings, site.bot_id)
    assert has_container(site, container)
    assert all(has_volume(site, name) for name in volumes)
    assert org_of(site).state is OrgState.DELETING


@pytest.mark.parametrize("state", [UpdateState.RUNNING, UpdateState.UPDATED])
def test_an_unfinished_update_comes_first(site: Site, state: UpdateState) -> None:
    container, update_id = str(site.bot().container_id), site.update_to(SECOND)
    delete_org(site, OVER)
    with site.database.transaction() as session:
        # It ended, but the container before this one is still there with the volumes of both.
        session.get_one(BotUpdate, update_id).state = state
    assert due(site) == []
    purge(site.database, site.settings, site.bot_id)
    assert has_container(site, container)


def test_a_restored_organization_keeps_everything_though_a_job_is_on_its_way(site: Site) -> None:
    container = str(site.bot().container_id)
    delete_org(site, OVER)
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).org.state = OrgState.ACTIVE
    purge(site.database, site.settings, site.bot_id)
    assert has_container(site, container)


def test_whoever_works_on_the_bot_is_not_disturbed(site: Site) -> None:
    container = str(site.bot().container_id)
    delete_org(site, OVER)
    with BotLease(site.database, site.bot_id):
        assert due(site) == []
        purge(site.database, site.settings, site.bot_id)
    assert has_container(site, container)


def test_a_volume_that_another_container_uses_stays(site: Site) -> None:
    mine, shared = site.volumes()[1], site.volumes()[0]
    image = site.inspect()["Image"]
    other = site.engine.create_container(
        image, host_config=site.engine.create_host_config(binds=[f"{shared}:/data"]), labels=dict(site.labels)
    )
    try:
        delete_org(site, OVER)
        purge(site.database, site.settings, site.bot_id)
        assert (has_volume(site, shared), has_volume(site, mine)) == (True, False)
        with site.database.reading() as session:
            event = session.query(Event).filter_by(tag="bot.removed").one()
        assert (event.data["kept"], event.data["volumes"]) == ([shared], [mine])
    finally:
        site.engine.remove_container(other["Id"], force=True, v=True)
        site.engine.remove_volume(shared)


def test_a_worker_that_died_after_the_container_went_is_followed_by_one_that_removes_the_volumes(site: Site) -> None:
    container, volumes = str(site.bot().container_id), site.volumes()
    delete_org(site, OVER, volumes_to_remove=volumes)
    site.engine.remove_container(container, force=True)
    purge(site.database, site.settings, site.bot_id)
    assert [name for name in volumes if has_volume(site, name)] == []
    assert site.bot().container_id is None
