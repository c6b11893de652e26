"""The job that creates the container of a new bot, on a real engine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from daemon.bots import new_container
from daemon.bots.new_container import CreationFailed
from daemon.bots.purge import purge
from daemon.update.sequence import update_bot
from demo.versions import CRASHING, FIRST, SECOND, UNHEALTHY
from portal.models import Bot, BotPhase, BotState, DesiredState, Event, OrgState, Release, UpdateState, utcnow
from portal.rules.allowlist import Allowlist
from portal.services.bots import creation, removal
from tests import factories
from tests.daemon.bots.nursery import Nursery, add_nursery
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]


@pytest.fixture
def nursery(empty_site: Site, docker_url: str, tmp_path: Path) -> Iterator[Nursery]:
    """A bot that waits for its container."""
    nursery = add_nursery(empty_site, docker_url, tmp_path)
    yield nursery
    nursery.remove()


def with_secret(nursery: Nursery, secret: str) -> int:
    """Call the provision protocol with a secret, and return the status."""
    url = f"http://{nursery.site.bot().address}/internal/members"
    headers = {"Authorization": f"Bearer {secret}"}
    return requests.get(url, params={"companyId": "x"}, headers=headers, timeout=10).status_code


def list_tags(nursery: Nursery) -> list[str]:
    """Return the tags of all events about the bot, oldest first."""
    with nursery.database.reading() as session:
        events = sa.select(Event.tag).where(Event.bot_id == nursery.bot_id).order_by(Event.id)
        return list(session.scalars(events))


def test_bot_is_created_with_limits_and_few_rights(nursery: Nursery) -> None:
    bot = nursery.create()
    found = nursery.inspect()
    assert found is not None
    assert (bot.phase, bot.state, bot.container_id) == (BotPhase.ACTIVE, BotState.RUNNING, found["Id"])
    assert (bot.current_digest, bot.epoch) == (nursery.site.images.digest(FIRST), 1)
    assert bot.address == f"127.0.0.1:{bot.host_port}"
    host = found["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (256 * 1024**2, 500_000_000, 100)
    assert (host["CapDrop"], [name.removeprefix("CAP_") for name in host["CapAdd"]]) == (["ALL"], ["CHOWN"])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PortBindings"]["3100/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(bot.host_port)}]
    assert {"TOKEN=s3cret-token", "HOSTED_MODE=1", f"FLOTILLA_BOT_ID={bot.id}"} <= set(found["Config"]["Env"])
    assert sorted(mount["Destination"] for mount in found["Mounts"]) == ["/data", "/paperclip"]
    assert nursery.volumes() == [f"flotilla-bot-{bot.id}-1", f"flotilla-bot-{bot.id}-2"]
    assert list_tags(nursery) == ["bot.created", "bot.ready"]
    assert with_secret(nursery, bot.provision_secret["current"]) != 401
    assert with_secret(nursery, "wrong") == 401


def test_job_of_an_active_bot_changes_nothing(nursery: Nursery) -> None:
    before = nursery.create()
    nursery.make_due()
    after = nursery.create()
    assert (after.container_id, after.version) == (before.container_id, before.version)


def test_created_bot_is_updated_and_gets_both_secrets_of_a_rotation(nursery: Nursery) -> None:
    bot = nursery.create()
    with nursery.database.transaction() as session:
        row = session.get_one(Bot, bot.id)
        row.provision_secret = {"current": bot.provision_secret["current"], "next": "the-next-secret"}
        release = session.scalar(sa.select(Release))
        assert release is not None
        new = factories.release(
            session,
            repository=release.repository,
            image=bot.image,
            digest=nursery.site.images.digest(SECOND),
            changelog=SECOND.changelog(),
        )
        rollout = factories.rollout(session, new, state="running", strategy="single_bot", audience="named")
        update_id = factories.update(session, rollout, row, wave=1).id
    update_bot(nursery.database, nursery.settings, update_id)
    update, updated = nursery.site.update(update_id), nursery.site.bot()
    assert (update.state, update.error) == (UpdateState.UPDATED, None)
    assert updated.host_port == bot.host_port
    found = nursery.inspect()
    assert found is not None
    assert found["Id"] == updated.container_id
    assert found["HostConfig"]["PidsLimit"] == 100
    old = bot.provision_secret["current"]
    assert {
        f"FLOTILLA_BOT_ID={bot.id}",
        "PROVISION_SECRET=the-next-secret",
        f"PROVISION_SECRET_PREVIOUS={old}",
    } <= set(found["Config"]["Env"])
    assert [with_secret(nursery, secret) != 401 for secret in ("the-next-secret", old)] == [True, True]


@pytest.mark.parametrize("version", [UNHEALTHY, CRASHING])
def test_unhealthy_release_is_undone_and_the_next_attempt_succeeds(nursery: Nursery, version: object) -> None:
    nursery.point_tag_at(version)  # type: ignore[arg-type]
    nursery.site.settings = nursery.site.with_settings(health_check_timeout=timedelta(seconds=3))
    failed = nursery.create()
    assert (failed.phase, nursery.inspect(), nursery.volumes()) == (BotPhase.CREATING, None, [])
    assert "Health check failed" in str(failed.creation_error)
    assert failed.creation_due_at is not None
    assert failed.creation_due_at > utcnow()
    nursery.point_tag_at(FIRST)
    nursery.make_due()
    assert nursery.create().phase is BotPhase.ACTIVE
    assert list_tags(nursery) == ["bot.created", "bot.creation_failed", "bot.ready"]


def test_image_that_is_gone_stays_visible_with_its_reason(nursery: Nursery) -> None:
    with nursery.database.transaction() as session:
        release = session.scalars(sa.select(Release)).one()
        release.digest = f"sha256:{'0' * 64}"
    bot = nursery.create()
    assert (bot.phase, nursery.inspect(), nursery.volumes()) == (BotPhase.CREATING, None, [])
    assert str(bot.creation_error).startswith("Pulling ")


def test_port_in_use_is_replaced_by_the_next_one(nursery: Nursery) -> None:
    port = nursery.site.bot().host_port or 0
    with socket.create_server(("127.0.0.1", port)):
        refused = nursery.create()
        assert (refused.host_port, nursery.inspect()) == (port + 1, None)
        assert "did not start" in str(refused.creation_error)
        nursery.make_due()
        created = nursery.create()
        assert (created.creation_error, created.address) == (None, f"127.0.0.1:{port + 1}")


def test_container_of_another_program_is_left_alone(nursery: Nursery) -> None:
    image = nursery.site.images.reference(FIRST)
    foreign = nursery.site.engine.create_container(image, name=nursery.name, labels=dict(nursery.site.labels))["Id"]
    bot = nursery.create()
    assert "that Flotilla did not create" in str(bot.creation_error)
    assert nursery.site.engine.inspect_container(foreign)["Id"] == foreign


def test_retry_with_another_template_replaces_the_container(nursery: Nursery) -> None:
    assert nursery.kill_worker_at(14)
    leftover = nursery.inspect()
    assert leftover is not None
    nursery.make_due()
    with nursery.database.transaction() as session:
        factories.bot_template(session, pids_limit=77)
        bot = session.get_one(Bot, nursery.bot_id)
        allowlist = Allowlist.parse(nursery.settings.fleet_image_allowlist)
        creation.retry_creation(session, allowlist, bot, now=utcnow(), actor=None)
    nursery.create()
    found = nursery.inspect()
    assert found is not None
    assert found["Id"] != leftover["Id"]
    assert found["HostConfig"]["PidsLimit"] == 77


def test_worker_killed_before_any_of_its_calls_leaves_a_bot_that_the_next_one_creates(nursery: Nursery) -> None:
    """Every call to the engine and every transaction is a moment at which the worker dies once."""
    number, deaths = 0, 0
    while True:
        number += 1
        if not nursery.kill_worker_at(number):
            break
        deaths += 1
        nursery.make_due()
    bot, found = nursery.site.bot(), nursery.inspect()
    assert deaths > 8
    assert found is not None
    assert (bot.phase, bot.container_id, bot.creation_error) == (BotPhase.ACTIVE, found["Id"], None)
    assert len(nursery.volumes()) == 2
    assert with_secret(nursery, bot.provision_secret["current"]) != 401
    assert list_tags(nursery).count("bot.ready") == 1


@pytest.mark.parametrize("number", range(4, 30, 3))
def test_removal_of_a_creation_that_died_leaves_nothing(nursery: Nursery, number: int) -> None:
    nursery.kill_worker_at(number)
    with nursery.database.transaction() as session:
        bot = session.get_one(Bot, nursery.bot_id)
        removal.request_removal(session, bot, keep_data=False, immediately=True, now=utcnow(), actor=None)
        bot.applied_state = DesiredState.STOPPED
    nursery.site.expire_lease()
    nursery.create()
    purge(nursery.database, nursery.settings, nursery.bot_id, utcnow())
    assert (nursery.site.bot().phase, nursery.inspect(), nursery.volumes()) == (BotPhase.REMOVED, None, [])


def test_bot_removed_during_its_creation_is_undone_by_the_worker(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_volumes = new_container.create_volumes

    def remove_meantime(*args: object) -> list[str]:
        with nursery.database.transaction() as session:
            bot = session.get_one(Bot, nursery.bot_id)
            removal.request_removal(session, bot, keep_data=False, now=utcnow(), actor=None)
        return create_volumes(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(new_container, "create_volumes", remove_meantime)
    bot = nursery.create()
    assert (bot.phase, bot.container_id, nursery.inspect(), nursery.volumes()) == (BotPhase.REMOVING, None, None, [])


def test_organization_deleted_during_the_creation_gets_its_bot_stopped(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_volumes = new_container.create_volumes

    def delete_org(*args: object) -> list[str]:
        with nursery.database.transaction() as session:
            bot = session.get_one(Bot, nursery.bot_id)
            bot.org.state, bot.desired_state = OrgState.DELETING, DesiredState.STOPPED
        return create_volumes(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(new_container, "create_volumes", delete_org)
    bot = nursery.create()
    assert (bot.phase, bot.desired_state, bot.applied_state) == (
        BotPhase.ACTIVE,
        DesiredState.STOPPED,
        DesiredState.RUNNING,
    )


def test_image_outside_the_allowlist_is_not_pulled(nursery: Nursery) -> None:
    nursery.site.settings = nursery.site.with_settings(fleet_image_allowlist=("other.example",))
    bot = nursery.create()
    assert "FLEET_IMAGE_ALLOWLIST" in str(bot.creation_error)
    assert nursery.volumes() == []


@pytest.mark.parametrize("host", ["8.8.8.8", "169.254.169.254", "2606:4700::1111"])
def test_ports_are_never_published_to_the_internet(host: str) -> None:
    with pytest.raises(CreationFailed, match="without the gateway"):
        new_container.resolve_host_ip(host)


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("10.1.2.3", "10.1.2.3"), ("::1", "::1")])
def test_private_and_loopback_addresses_are_accepted(host: str, address: str) -> None:
    assert new_container.resolve_host_ip(host) == address


@pytest.mark.parametrize("keep_data", [True, False])
def test_removed_bot_keeps_its_volumes_only_if_that_was_chosen(nursery: Nursery, keep_data: bool) -> None:
    nursery.create()
    volumes = nursery.volumes()
    with nursery.database.transaction() as session:
        bot = session.get_one(Bot, nursery.bot_id)
        removal.request_removal(session, bot, keep_data=keep_data, immediately=True, now=utcnow(), actor=None)
        bot.applied_state = DesiredState.STOPPED
    purge(nursery.database, nursery.settings, nursery.bot_id, utcnow())
    bot = nursery.site.bot()
    assert (bot.phase, bot.provision_secret, nursery.inspect()) == (BotPhase.REMOVED, None, None)
    assert nursery.volumes() == (volumes if keep_data else [])
    with nursery.database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.removed")).one()
    assert event.data["kept" if keep_data else "volumes"] == volumes


def test_secrets_appear_in_no_log_line_event_or_error(nursery: Nursery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    nursery.point_tag_at(CRASHING)
    failed = nursery.create()
    nursery.point_tag_at(FIRST)
    nursery.make_due()
    bot = nursery.create()
    with nursery.database.reading() as session:
        events = [event.facts for event in session.scalars(sa.select(Event))]
    visible = repr((caplog.text, events, failed.creation_error))
    assert bot.phase is BotPhase.ACTIVE
    assert bot.provision_secret["current"] not in visible
    assert "s3cret-token" not in visible
