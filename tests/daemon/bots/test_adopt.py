"""Adopting takes a container under management as it is, or says why not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from daemon.bot_lease import BotLease
from daemon.bots.adopt import AdoptOptions, adopt, attach
from daemon.engine import containers
from daemon.engine.health_probe import probe
from daemon.snapshots import helper_containers
from demo.versions import FIRST, SECOND, UNHEALTHY
from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    Event,
    MemberSync,
    Org,
    OrgState,
    PolledImage,
    SyncRole,
    UpdateState,
    User,
    new_id,
    utcnow,
)
from portal.rules.allowlist import ImageNotAllowed
from portal.services.bots import attention, nodes
from portal.services.bots.leases import BotBusy
from portal.services.bots.nodes import NodeSpec
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.services.orgs import creation
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]

Start = Callable[..., str]


@pytest.fixture
def here(empty_site: Site, docker_url: str) -> Site:
    """A site with a node and an organization, but no bot."""
    with empty_site.database.transaction() as session:
        owner = User(email="a@example.com", email_normalized="a@example.com", name="Alice")
        session.add(owner)
        session.flush()
        creation.create_org(session, "Acme", owner)
        session.add(Org(slug="leaving", name="Leaving", owner_id=owner.id, state=OrgState.DELETING))
        nodes.add_node(session, NodeSpec(name="here", docker_url=docker_url, snapshot_dir="/var/lib/flotilla"))
    return empty_site


@pytest.fixture
def start(here: Site, tmp_path: Path) -> Iterator[Start]:
    """Starts a container by hand and returns its id; everything about it can be said otherwise."""
    started: list[str] = []

    def start(
        image: str | None = None, *, running: bool = True, host: dict[str, Any] | None = None, **how: Any
    ) -> str:
        here.images.digest(FIRST)
        options = {"port_bindings": {3100: ("127.0.0.1", None)}} if host is None else host
        container = here.engine.create_container(
            image or f"{here.images.repository}:{FIRST.version}",
            name=f"Acme_Desk.{new_id()}",
            labels=dict(here.labels),
            host_config=here.engine.create_host_config(**options),
            **how,
        )["Id"]
        started.append(container)
        if running:
            here.engine.start(container)
        return str(container)

    yield start
    for container in started:
        helper_containers.remove_helper(here.engine, container)


def take(site: Site, container: str, options: AdoptOptions | None = None, **where: str) -> Any:
    """Adopt a container for acme on the only node, unless said otherwise."""
    return adopt(
        site.database, site.settings, container, **({"node": "here", "org": "acme"} | where), options=options
    )


def described(here: Site, container: str) -> dict[str, Any]:
    """The engine's description, with the mounts in an order of ours, for the engine has none."""
    found: dict[str, Any] = here.engine.inspect_container(container)
    return found | {"Mounts": sorted(found["Mounts"], key=lambda mount: mount["Destination"])}


def test_a_container_becomes_a_bot_and_stays_as_it_is(here: Site, start: Start) -> None:
    container = start(environment={"API_KEY": "secret"})
    before = described(here, container)
    name = before["Name"].removeprefix("/")

    with here.database.reading() as session:
        operator = session.scalars(sa.select(User.id)).one()
    adopted = adopt(here.database, here.settings, name, node="here", org="acme", actor_id=operator)

    assert described(here, container) == before
    with here.database.reading() as session:
        bot = session.get_one(Bot, adopted.bot.id)
        assert (bot.org.slug, bot.node.name, bot.name, bot.container_name) == ("acme", "here", name, name)
        assert bot.subdomain == name.lower().replace("_", "-").replace(".", "-")
        assert bot.image == f"{here.images.repository}:{FIRST.version}"
        assert bot.current_digest == here.images.digest(FIRST)
        assert (bot.container_id, bot.port, bot.health_path) == (container, 3100, "/health")
        assert bot.desired_state is DesiredState.RUNNING
        assert bot.address == f"127.0.0.1:{before['NetworkSettings']['Ports']['3100/tcp'][0]['HostPort']}"
        assert bot.spec["container"]["Config"]["Env"] == before["Config"]["Env"]
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.created")).one()
        assert (event.bot_id, event.org_id, event.actor_id) == (bot.id, bot.org_id, operator)
        assert event.data["adopted"] is True
        assert "secret" not in str(event.data)
        assert "secret" not in str(session.execute(sa.text("SELECT spec FROM bots")).scalar_one())
        # It will be told who belongs to its organization.
        wish = session.scalars(sa.select(MemberSync).where(MemberSync.bot_id == bot.id)).one()
        assert (wish.user_id, wish.desired_role) == (bot.org.owner_id, SyncRole.OWNER)
        polled = session.scalars(sa.select(PolledImage)).one()
        assert polled.image == bot.image
        assert polled.next_poll_at is not None
        assert polled.next_poll_at <= utcnow()


def test_a_pinned_bot_is_never_polled(here: Site, start: Start) -> None:
    adopted = take(here, start(), AdoptOptions(channel=Channel.PINNED))

    with here.database.reading() as session:
        assert session.scalars(sa.select(PolledImage)).all() == []
    assert adopted.bot.release_channel is Channel.PINNED


def test_an_image_without_a_tag_needs_one_to_follow(here: Site, start: Start) -> None:
    by_digest = start(here.images.reference(FIRST))
    by_id = start(here.engine.inspect_container(by_digest)["Image"])
    for container in (by_digest, by_id):
        with pytest.raises(InvalidError, match="no tag to follow; say which to follow with --image"):
            take(here, container)

    adopted = take(here, by_id, AdoptOptions(image=f"{here.images.repository}:stable"))

    assert adopted.bot.image == f"{here.images.repository}:stable"
    assert adopted.bot.current_digest == here.images.digest(FIRST)


def test_a_digest_of_another_repository_does_not_count(here: Site, start: Start) -> None:
    registry = here.images.repository.split("/")[0]
    adopted = take(here, start(), AdoptOptions(image=f"{registry}/flotilla/other:stable"))

    assert adopted.bot.current_digest is None
    assert any("counts as behind" in warning for warning in adopted.warnings)


def test_nobody_can_adopt_what_is_not_there(here: Site, start: Start) -> None:
    container = start()
    with pytest.raises(NotFoundError, match="no organization with the slug nobody"):
        take(here, container, org="nobody")
    with pytest.raises(ConflictError, match="is being deleted"):
        take(here, container, org="leaving")
    with pytest.raises(NotFoundError, match="no node named mars; the nodes are: here"):
        take(here, container, node="mars")
    with pytest.raises(NotFoundError, match="There is no container nothing on node here"):
        take(here, "nothing")


def test_an_image_outside_the_allowlist_is_refused(here: Site, start: Start) -> None:
    here.settings = here.with_settings(fleet_image_allowlist=("ghcr.io/acme",))
    with pytest.raises(ImageNotAllowed, match="FLEET_IMAGE_ALLOWLIST"):
        take(here, start())


def test_a_container_is_adopted_once(here: Site, start: Start) -> None:
    container = start()
    first = take(here, container)
    with pytest.raises(ConflictError, match=f"it is the bot {first.bot.name} of acme"):
        take(here, container)


def test_a_taken_subdomain_is_refused(here: Site, start: Start) -> None:
    take(here, start(), AdoptOptions(subdomain="desk"))
    with pytest.raises(ConflictError, match="subdomain desk is taken"):
        take(here, start(), AdoptOptions(subdomain="desk"))
    with pytest.raises(InvalidError, match="cannot be a subdomain"):
        take(here, start(), AdoptOptions(subdomain="Desk!"))


def test_a_container_that_removes_itself_is_refused(here: Site, start: Start) -> None:
    container = start(host={"auto_remove": True, "port_bindings": {3100: ("127.0.0.1", None)}})
    with pytest.raises(ConflictError, match="--rm"):
        take(here, container)


def test_a_stopped_container_is_refused(here: Site, start: Start) -> None:
    with pytest.raises(ConflictError, match="start it first"):
        take(here, start(running=False))


def test_a_container_nobody_can_reach_is_refused(here: Site, start: Start) -> None:
    with pytest.raises(ConflictError, match=r"Port 3100 of .* cannot be reached"):
        take(here, start(host={"network_mode": "none"}))


def test_the_port_must_be_clear(here: Site, start: Start) -> None:
    helper_image = here.settings.snapshot_image
    with pytest.raises(InvalidError, match=r"exposes the ports 8080, 9090; say which .* --port"):
        take(here, start(helper_image, command=["sleep", "1000"], ports=[8080, 9090], host={}))

    only = start(helper_image, command=["sleep", "1000"], ports=[8080], host={})
    assert take(here, only).bot.port == 8080


def test_an_address_in_the_network_will_do_on_this_machine(here: Site, start: Start) -> None:
    container = start(host={})
    address = here.engine.inspect_container(container)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert take(here, container).bot.address == f"{address}:3100"


def test_the_operator_is_told_what_no_snapshot_protects(here: Site, start: Start, tmp_path: Path) -> None:
    container = start(
        here.settings.snapshot_image,
        entrypoint=["sh", "-c", "mkdir -p /srv/own; echo data > /srv/own/file; sleep 1000"],
        volumes=["/shared", "/config"],
        host={"binds": [f"{tmp_path}:/shared", f"{tmp_path}:/config:ro"]},
    )
    while not here.engine.diff(container):
        pass

    adopted = take(here, container)

    assert adopted.bot.unprotected == ["/shared"]
    assert any("folders of the node at /shared;" in warning for warning in adopted.warnings)
    assert any("written inside the container at" in warning and "/srv/own" in warning for warning in adopted.warnings)


def test_bad_health_is_only_a_warning(here: Site, start: Start) -> None:
    here.images.digest(UNHEALTHY)
    adopted = take(here, start(f"{here.images.repository}:{UNHEALTHY.version}"))

    assert adopted.bot.state is BotState.UNHEALTHY
    assert adopted.warnings[0].startswith(f"Its health check http://{adopted.bot.address}/health says: ")
    assert not probe(adopted.bot.address, "/health").ok


@pytest.fixture
def lost(here: Site, start: Start) -> Bot:
    """A bot that was stopped by Flotilla, whose container somebody then removed by hand."""
    bot: Bot = take(here, start(volumes=["/paperclip"]), AdoptOptions(name="Desk", subdomain="desk")).bot
    helper_containers.remove_helper(here.engine, str(bot.container_id))
    with here.database.transaction() as session:
        row = session.get_one(Bot, bot.id)
        row.state, row.state_detail = BotState.MISSING, "its container is gone from the node"
        row.applied_state, row.restart_policy = DesiredState.STOPPED, {"Name": "always"}
        row.needs_attention = "docker start it"
    return bot


def test_a_bot_whose_container_is_gone_goes_on_in_another(here: Site, start: Start, lost: Bot) -> None:
    here.images.digest(SECOND)
    container = start(f"{here.images.repository}:{SECOND.version}", environment={"API_KEY": "secret"})
    before = described(here, container)

    attached = attach(here.database, here.settings, "desk", container)

    assert described(here, container) == before
    with here.database.transaction() as session:
        bot = session.get_one(Bot, lost.id)
        assert (bot.container_id, bot.container_name) == (container, containers.name_of_container(before))
        assert (bot.name, bot.subdomain, bot.image) == ("Desk", "desk", lost.image)
        assert bot.current_digest == here.images.digest(SECOND)
        assert bot.address == f"127.0.0.1:{before['NetworkSettings']['Ports']['3100/tcp'][0]['HostPort']}"
        assert bot.state in {BotState.RUNNING, BotState.UNHEALTHY}  # it is only just starting
        assert (bot.state_detail, bot.restart_policy) == (None, None)
        assert bot.applied_state is DesiredState.RUNNING
        assert bot.epoch == lost.epoch + 1
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.attached")).one()
        assert (event.bot_id, event.data["new_container_id"]) == (lost.id, container)
        # What was its dead end before.
        attention.clear_attention(session, bot, "made anew", None)
    [warning] = [warning for warning in attached.warnings if "does not mount" in warning]
    assert all(mount["Name"] in warning for mount in lost.spec["container"]["Mounts"])


def test_a_bot_goes_on_only_in_what_could_be_adopted_and_only_when_its_own_is_gone(
    here: Site, start: Start, lost: Bot
) -> None:
    def try_to_attach(container: str, name: str = "desk") -> None:
        attach(here.database, here.settings, name, container)

    other = take(here, start()).bot
    with pytest.raises(ConflictError, match="it is the bot"):
        try_to_attach(str(other.container_id))
    with pytest.raises(ConflictError, match="is still there"):
        try_to_attach(start(), other.subdomain)
    with pytest.raises(ConflictError, match="start it first"):
        try_to_attach(start(running=False))
    with pytest.raises(NotFoundError):
        try_to_attach("nothing")
    with BotLease(here.database, lost.id), pytest.raises(BotBusy):
        try_to_attach(start())
    with here.database.transaction() as session:
        session.get_one(Bot, lost.id).org.state = OrgState.DELETING
    with pytest.raises(ConflictError, match="is being deleted"):
        try_to_attach(start())
    with here.database.reading() as session:
        assert session.get_one(Bot, lost.id).container_id == lost.container_id


def test_a_bot_goes_on_in_another_container_only_after_its_update(here: Site, start: Start, lost: Bot) -> None:
    here.bot_id = lost.id
    update_id, container = here.update_to(SECOND), start()
    for state, old in ((UpdateState.RUNNING, None), (UpdateState.UPDATED, container)):
        with here.database.transaction() as session:
            update = session.get_one(BotUpdate, update_id)
            update.state, update.old_container_id = state, old
        with pytest.raises(ConflictError, match="not over yet"):
            attach(here.database, here.settings, "desk", container)
    # What cannot be cleaned up for now is no dead end.
    assert attach(here.database, here.settings, "desk", start()).bot.id == lost.id


def test_a_temporary_container_of_an_update_is_refused(here: Site, start: Start) -> None:
    container = start()
    here.engine.rename(container, f"flotilla-{new_id()}-old")
    with pytest.raises(ConflictError, match="temporary container of an update"):
        take(here, container)
