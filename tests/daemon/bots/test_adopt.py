"""Adoption of containers: what becomes a bot, what is refused, and the warnings."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.bots.inspection import AdoptOptions
from daemon.engine.health_probe import HealthCheck, probe
from demo.versions import FIRST, UNHEALTHY
from portal.models import Bot, BotState, Channel, DesiredState, Event, MemberSync, PolledImage, User, new_id, utcnow
from portal.rules.allowlist import ImageNotAllowed
from portal.rules.roles import SyncRole
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from tests.daemon.bots.adoption import Start, adopt_container, describe
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def test_adopted_container_becomes_a_bot_and_is_not_changed(empty_node: Site, start: Start) -> None:
    container = start(environment={"API_KEY": "secret"})
    before = describe(empty_node, container)
    name = before["Name"].removeprefix("/")

    with empty_node.database.reading() as session:
        operator = session.scalars(sa.select(User.id)).one()
    adopted = adopt_container(empty_node, name, actor=operator)

    assert describe(empty_node, container) == before
    with empty_node.database.reading() as session:
        bot = session.get_one(Bot, adopted.bot.id)
        assert (bot.org.slug, bot.node.name, bot.name, bot.container_name) == ("acme", "here", name, name)
        assert bot.subdomain == name.lower().replace("_", "-").replace(".", "-")
        assert bot.image == f"{empty_node.images.repository}:{FIRST.version}"
        assert bot.current_digest == empty_node.images.digest(FIRST)
        assert (bot.container_id, bot.port, bot.health_path) == (container, 3100, "/health")
        assert bot.desired_state is DesiredState.RUNNING
        assert bot.address == f"127.0.0.1:{before['NetworkSettings']['Ports']['3100/tcp'][0]['HostPort']}"
        assert bot.spec["container"]["Config"]["Env"] == before["Config"]["Env"]
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.created")).one()
        assert (event.bot_id, event.org_id, event.actor_id) == (bot.id, bot.org_id, operator)
        assert event.data["adopted"] is True
        assert "secret" not in str(event.data)
        assert "secret" not in str(session.execute(sa.text("SELECT spec FROM bots")).scalar_one())
        # The members of its organization have a desired role in the bot.
        sync = session.scalars(sa.select(MemberSync).where(MemberSync.bot_id == bot.id)).one()
        assert (sync.user_id, sync.desired_role) == (bot.org.owner_id, SyncRole.OWNER)
        polled = session.scalars(sa.select(PolledImage)).one()
        assert polled.image == bot.image
        assert polled.next_poll_at is not None
        assert polled.next_poll_at <= utcnow()


def test_image_of_a_pinned_bot_is_not_polled(empty_node: Site, start: Start) -> None:
    adopted = adopt_container(empty_node, start(), AdoptOptions(channel=Channel.PINNED))

    with empty_node.database.reading() as session:
        assert session.scalars(sa.select(PolledImage)).all() == []
    assert adopted.bot.release_channel is Channel.PINNED


def test_image_without_a_tag_requires_the_image_option(empty_node: Site, start: Start) -> None:
    by_digest = start(empty_node.images.reference(FIRST))
    by_id = start(empty_node.engine.inspect_container(by_digest)["Image"])
    for container in (by_digest, by_id):
        with pytest.raises(InvalidError, match=r"no tag to follow\. Choose a tag with --image"):
            adopt_container(empty_node, container)

    adopted = adopt_container(empty_node, by_id, AdoptOptions(image=f"{empty_node.images.repository}:stable"))

    assert adopted.bot.image == f"{empty_node.images.repository}:stable"
    assert adopted.bot.current_digest == empty_node.images.digest(FIRST)


def test_digest_of_another_repository_is_ignored(empty_node: Site, start: Start) -> None:
    registry = empty_node.images.repository.split("/")[0]
    adopted = adopt_container(empty_node, start(), AdoptOptions(image=f"{registry}/flotilla/other:stable"))

    assert adopted.bot.current_digest is None
    assert any("counts as outdated" in warning for warning in adopted.warnings)


def test_unknown_organization_node_or_container_is_refused(empty_node: Site, start: Start) -> None:
    container = start()
    with pytest.raises(NotFoundError, match="no organization with the slug unknown"):
        adopt_container(empty_node, container, org="unknown")
    with pytest.raises(ConflictError, match="is being deleted"):
        adopt_container(empty_node, container, org="leaving")
    with pytest.raises(NotFoundError, match=r"no node named mars\. Nodes: here"):
        adopt_container(empty_node, container, node="mars")
    with pytest.raises(NotFoundError, match="There is no container nothing on node here"):
        adopt_container(empty_node, "nothing")


def test_image_outside_the_allowlist_is_refused(empty_node: Site, start: Start) -> None:
    empty_node.settings = empty_node.with_settings(fleet_image_allowlist=("ghcr.io/acme",))
    with pytest.raises(ImageNotAllowed, match="FLEET_IMAGE_ALLOWLIST"):
        adopt_container(empty_node, start())


def test_container_cannot_be_adopted_twice(empty_node: Site, start: Start) -> None:
    container = start()
    first = adopt_container(empty_node, container)
    with pytest.raises(ConflictError, match=f"it is the bot {first.bot.name} of acme"):
        adopt_container(empty_node, container)


def test_taken_or_invalid_subdomain_is_refused(empty_node: Site, start: Start) -> None:
    adopt_container(empty_node, start(), AdoptOptions(subdomain="desk"))
    with pytest.raises(ConflictError, match="subdomain desk is taken"):
        adopt_container(empty_node, start(), AdoptOptions(subdomain="desk"))
    for subdomain in ("Desk!", "xn--80ak6aa92e"):
        with pytest.raises(InvalidError, match="not a valid subdomain"):
            adopt_container(empty_node, start(), AdoptOptions(subdomain=subdomain))


def test_container_started_with_rm_is_refused(empty_node: Site, start: Start) -> None:
    container = start(host={"auto_remove": True, "port_bindings": {3100: ("127.0.0.1", None)}})
    with pytest.raises(ConflictError, match="--rm"):
        adopt_container(empty_node, container)


def test_stopped_container_is_refused(empty_node: Site, start: Start) -> None:
    with pytest.raises(ConflictError, match="Start it first"):
        adopt_container(empty_node, start(running=False))


def test_unreachable_container_is_refused(empty_node: Site, start: Start) -> None:
    with pytest.raises(ConflictError, match=r"Port 3100 of .* cannot be reached"):
        adopt_container(empty_node, start(host={"network_mode": "none"}))


def test_ambiguous_port_is_refused(empty_node: Site, start: Start) -> None:
    helper_image = empty_node.settings.snapshot_image
    with pytest.raises(InvalidError, match=r"exposes the ports 8080, 9090. Choose .* --port"):
        adopt_container(empty_node, start(helper_image, command=["sleep", "1000"], ports=[8080, 9090], host={}))

    only = start(helper_image, command=["sleep", "1000"], ports=[8080], host={})
    assert adopt_container(empty_node, only).bot.port == 8080


def test_address_in_a_network_of_this_machine_is_accepted(empty_node: Site, start: Start) -> None:
    container = start(host={})
    address = empty_node.engine.inspect_container(container)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert adopt_container(empty_node, container).bot.address == f"{address}:3100"


def test_unprotected_data_is_a_warning(empty_node: Site, start: Start, tmp_path: Path) -> None:
    container = start(
        empty_node.settings.snapshot_image,
        entrypoint=["sh", "-c", "mkdir -p /srv/own; echo data > /srv/own/file; sleep 1000"],
        volumes=["/shared", "/config"],
        host={"binds": [f"{tmp_path}:/shared", f"{tmp_path}:/config:ro"]},
    )
    while not empty_node.engine.diff(container):
        pass

    adopted = adopt_container(empty_node, container)

    assert adopted.bot.unprotected == ["/shared"]
    assert any("folders of the node at /shared." in warning for warning in adopted.warnings)
    assert any("the container has written at" in warning and "/srv/own" in warning for warning in adopted.warnings)


def test_failed_health_check_is_a_warning(empty_node: Site, start: Start) -> None:
    empty_node.images.digest(UNHEALTHY)
    adopted = adopt_container(empty_node, start(f"{empty_node.images.repository}:{UNHEALTHY.version}"))

    assert adopted.bot.state is BotState.UNHEALTHY
    assert adopted.warnings[0].startswith(f"The health check http://{adopted.bot.address}/health fails: ")
    assert not probe(str(adopted.bot.address), HealthCheck("/health")).ok


def test_temporary_container_of_an_update_is_refused(empty_node: Site, start: Start) -> None:
    container = start()
    empty_node.engine.rename(container, f"flotilla-{new_id()}-old")
    with pytest.raises(ConflictError, match="temporary container of an update"):
        adopt_container(empty_node, container)
