"""The job that removes a bot with its data after the grace period of its organization."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from docker.errors import NotFound

from daemon.bot_lease import BotLease
from daemon.bots.desired_state import apply_desired_state
from daemon.bots.purge import purge
from demo.versions import CORRUPTING, SECOND
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    Event,
    Org,
    OrgState,
    UpdateState,
    utcnow,
)
from portal.services.bots import purging, removal
from tests.daemon.update.test_sequence import list_archives, worker_in_health_check
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]

EXPIRED = -purging.MARGIN - timedelta(seconds=1)
"""Remaining grace period of an organization whose bots may be purged."""


def delete_org(site: Site, grace: timedelta, **bot_values: Any) -> None:
    """Delete the organization, with this remaining grace period, and stop its bot."""
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
    """Return the bots for which the scheduler enqueues a job."""
    with site.database.reading() as session:
        return [bot_id for bot_id, _ in purging.list_due(session, utcnow())]


def close_and_load_org(site: Site) -> Org:
    """Close deleted organizations, as the scheduler does, and return the organization of the bot."""
    with site.database.transaction() as session:
        purging.close_deleted_orgs(session, utcnow())
    with site.database.reading() as session:
        return session.get_one(Org, site.bot().org_id)


def has_volume(site: Site, name: str) -> bool:
    """Return whether the engine has this volume."""
    try:
        site.engine.inspect_volume(name)
    except NotFound:
        return False
    return True


def has_container(site: Site, container: str) -> bool:
    """Return whether the engine has this container."""
    try:
        site.engine.inspect_container(container)
    except NotFound:
        return False
    return True


def test_container_volumes_and_archives_are_removed_after_the_grace_period(site: Site) -> None:
    container, volumes = str(site.bot().container_id), site.volumes()
    archive = site.leave_archive()
    delete_org(site, EXPIRED)
    assert due(site) == [site.bot_id]
    assert close_and_load_org(site).state is OrgState.DELETING

    purge(site.database, site.settings, site.bot_id, utcnow())
    bot = site.bot()
    assert not has_container(site, container)
    assert [name for name in volumes if has_volume(site, name)] == []
    assert not archive.exists()
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
    closed = close_and_load_org(site)
    assert closed.state is OrgState.DELETED
    assert closed.deleted_at is not None


@pytest.mark.parametrize(
    ("grace", "values"),
    [
        (timedelta(days=7), {}),
        # The clock of another machine may be ahead.
        (timedelta(seconds=-1), {}),
        (EXPIRED, {"needs_attention": "docker start 1234"}),
        (EXPIRED, {"applied_state": DesiredState.RUNNING}),
    ],
)
def test_bot_that_is_not_purgeable_is_kept(site: Site, grace: timedelta, values: dict[str, Any]) -> None:
    container, volumes = str(site.bot().container_id), site.volumes()
    delete_org(site, grace, **values)
    assert due(site) == []
    purge(site.database, site.settings, site.bot_id, utcnow())
    assert has_container(site, container)
    assert all(has_volume(site, name) for name in volumes)
    assert close_and_load_org(site).state is OrgState.DELETING


@pytest.mark.parametrize("state", [UpdateState.RUNNING, UpdateState.UPDATED])
def test_purge_waits_for_an_unfinished_update(site: Site, state: UpdateState) -> None:
    container, update_id = str(site.bot().container_id), site.update_to(SECOND)
    delete_org(site, EXPIRED)
    with site.database.transaction() as session:
        # An update that ended is unfinished until the old container, which has the same volumes, is removed.
        session.get_one(BotUpdate, update_id).state = state
    assert due(site) == []
    purge(site.database, site.settings, site.bot_id, utcnow())
    assert has_container(site, container)


def test_bot_of_a_restored_organization_is_kept_even_if_a_job_is_queued(site: Site) -> None:
    container = str(site.bot().container_id)
    delete_org(site, EXPIRED)
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).org.state = OrgState.ACTIVE
    purge(site.database, site.settings, site.bot_id, utcnow())
    assert has_container(site, container)


def test_purge_waits_for_the_lease(site: Site) -> None:
    container = str(site.bot().container_id)
    delete_org(site, EXPIRED)
    with BotLease(site.database, site.bot_id):
        assert due(site) == []
        purge(site.database, site.settings, site.bot_id, utcnow())
    assert has_container(site, container)


def test_volume_that_another_container_uses_is_kept(site: Site) -> None:
    own, shared = site.volumes()[1], site.volumes()[0]
    image = site.inspect()["Image"]
    other = site.engine.create_container(
        image, host_config=site.engine.create_host_config(binds=[f"{shared}:/data"]), labels=dict(site.labels)
    )
    try:
        delete_org(site, EXPIRED)
        purge(site.database, site.settings, site.bot_id, utcnow())
        assert (has_volume(site, shared), has_volume(site, own)) == (True, False)
        with site.database.reading() as session:
            event = session.query(Event).filter_by(tag="bot.removed").one()
        assert (event.data["kept"], event.data["volumes"]) == ([shared], [own])
    finally:
        site.engine.remove_container(other["Id"], force=True, v=True)
        site.engine.remove_volume(shared)


def test_interrupted_purge_is_completed_by_the_next_job(site: Site) -> None:
    container, volumes = str(site.bot().container_id), site.volumes()
    delete_org(site, EXPIRED, volumes_to_remove=volumes)
    site.engine.remove_container(container, force=True)
    purge(site.database, site.settings, site.bot_id, utcnow())
    assert [name for name in volumes if has_volume(site, name)] == []
    assert site.bot().container_id is None


@pytest.mark.slow
@pytest.mark.parametrize("keep_data", [True, False])
def test_bot_after_a_failed_rollback_is_removed_with_all_of_its_containers(site: Site, keep_data: bool) -> None:
    """The new container still has the volumes of the old one, and an archive may be the only copy of the data."""
    volumes, update_id = site.volumes(), site.update_to(CORRUPTING)
    with worker_in_health_check(site, update_id):
        archives = [Path(path) for path in list_archives(site, update_id)]
        archives[0].rename(archives[0].with_suffix(".away"))
    archives[0].with_suffix(".away").rename(archives[0])
    assert site.update(update_id).state is UpdateState.NEEDS_ATTENTION
    with site.database.transaction() as session:
        bot = session.get_one(Bot, site.bot_id)
        removal.request_removal(session, bot, keep_data=keep_data, immediately=True, now=utcnow(), actor=None)
    assert due(site) == []
    apply_desired_state(site.database, site.bot_id)
    assert due(site) == [site.bot_id]
    purge(site.database, site.settings, site.bot_id, utcnow())
    bot = site.bot()
    assert (bot.phase, bot.needs_attention) == (BotPhase.REMOVED, None)
    assert not has_container(site, site.container)
    assert {has_volume(site, name) for name in volumes} == {keep_data}
    assert {archive.exists() for archive in archives} == {keep_data}
    assert [name for name in site.leftovers() if name not in {archive.name for archive in archives}] == []
    for name in volumes if keep_data else []:
        site.engine.remove_volume(name)
