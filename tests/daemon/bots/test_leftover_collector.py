"""The collector removes leftovers of finished updates and nothing that may still be needed."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from docker.errors import ImageNotFound

from daemon.bots import leftover_collector
from daemon.bots.leftover_collector import collect_node
from daemon.engine.client import pull
from daemon.engine.labels import INSTALL_LABEL
from demo.versions import SECOND
from portal.models import BotUpdate, FleetSettings, RolloutState, UpdateState, new_id, utcnow
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def create(site: Site, name: str, *, install: str | None = None) -> str:
    """Create a container with the label of an installation, by default this one."""
    with site.database.reading() as session:
        this_install = session.get_one(FleetSettings, 1).install_id
    labels = {**site.labels, INSTALL_LABEL: install or this_install}
    return str(site.engine.create_container(site.settings.snapshot_image, ["true"], name=name, labels=labels)["Id"])


def add_update(site: Site, state: UpdateState, *, cleaned: bool) -> str:
    """Add an update of the bot in this state."""
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        update.state, update.cleaned_at = state, utcnow() if cleaned else None
    return update_id


def collect(site: Site) -> list[str]:
    """Run the collector and return the names of what it removed."""
    return sorted(collect_node(site.database, site.bot().node_id, utcnow()))


ROLES = ["delete", "new", "old", "probe", "restore-2", "restore-f7", "snap-1", "snapshots-f7"]


@pytest.mark.parametrize(
    "state", [UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.SKIPPED]
)
def test_leftovers_of_a_finished_update_are_removed(site: Site, state: UpdateState) -> None:
    update_id = add_update(site, state, cleaned=True)
    names = [f"flotilla-{update_id}-{role}" for role in ROLES]
    for name in names:
        create(site, name)

    assert collect(site) == names
    assert site.leftovers() == []
    assert collect(site) == []
    assert site.inspect()["State"]["Running"]


@pytest.mark.parametrize(
    ("state", "cleaned"),
    [
        (UpdateState.PENDING, False),
        (UpdateState.PENDING, True),
        (UpdateState.RUNNING, False),
        (UpdateState.UPDATED, False),
        (UpdateState.ROLLED_BACK, False),
        (UpdateState.NEEDS_ATTENTION, False),
        (UpdateState.NEEDS_ATTENTION, True),
    ],
)
def test_containers_of_an_unfinished_update_are_kept(site: Site, state: UpdateState, cleaned: bool) -> None:
    update_id = add_update(site, state, cleaned=cleaned)
    for role in ROLES:
        create(site, f"flotilla-{update_id}-{role}")

    assert collect(site) == []
    assert len(site.leftovers()) == len(ROLES)


def unrelated_containers(update_id: str) -> dict[str, Callable[[Site], str]]:
    """Return functions that create containers which the collector must keep."""
    return {
        "of another installation": lambda site: create(site, f"flotilla-{update_id}-new", install=new_id()),
        "with a permanent name": lambda site: create(site, f"customer-{update_id}"),
        "with a longer name": lambda site: create(site, f"flotilla-{update_id}-new-database"),
        "of an unknown update": lambda site: create(site, f"flotilla-{new_id()}-old"),
    }


@pytest.mark.parametrize("kind", unrelated_containers(""))
def test_unrelated_containers_are_kept(site: Site, kind: str) -> None:
    container = unrelated_containers(add_update(site, UpdateState.UPDATED, cleaned=True))[kind](site)

    assert collect(site) == []
    site.engine.inspect_container(container)
    site.engine.remove_container(container)


def test_container_of_a_bot_is_kept_even_under_a_temporary_name(site: Site) -> None:
    update_id = add_update(site, UpdateState.UPDATED, cleaned=True)
    container = create(site, f"flotilla-{update_id}-old")
    with site.database.transaction() as session:
        session.get_one(BotUpdate, update_id).bot.container_id = container

    assert collect(site) == []


def test_volumes_of_a_removed_container_are_kept(site: Site) -> None:
    update_id = add_update(site, UpdateState.UPDATED, cleaned=True)
    with site.database.reading() as session:
        install = session.get_one(FleetSettings, 1).install_id
    container = site.engine.create_container(
        site.settings.snapshot_image,
        ["true"],
        name=f"flotilla-{update_id}-old",
        volumes=["/anonymous"],
        labels={**site.labels, INSTALL_LABEL: install},
    )["Id"]
    (mount,) = site.engine.inspect_container(container)["Mounts"]

    assert collect(site) == [f"flotilla-{update_id}-old"]
    site.engine.inspect_volume(mount["Name"])
    site.engine.remove_volume(mount["Name"])


@pytest.mark.parametrize("form", ["flotilla-changelog-{}", "flotilla-doctor{}-probe"])
def test_short_lived_container_is_removed_when_it_is_old(
    site: Site, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    name = form.format(new_id())
    create(site, name)
    of_another_install = create(site, form.format(new_id()), install=new_id())

    assert collect(site) == []
    monkeypatch.setattr(leftover_collector, "_SHORT_LIVED_AGE", timedelta(0))
    assert collect(site) == [name]
    site.engine.remove_container(of_another_install)


def add_pulled_image(site: Site, *, days_ago: int) -> str:
    """Pull the image of a release whose update was rolled back some days ago, and return it."""
    version = replace(SECOND, version=f"9.9.{days_ago}")
    digest = site.images.digest(version)
    with suppress(ImageNotFound):  # another test of this run may have pulled it
        site.engine.remove_image(f"{site.images.repository}:{version.version}")
    pull(site.engine, site.images.reference(version), None)
    update_id = site.update_to(version)
    with site.database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        update.state, update.new_container_id = UpdateState.ROLLED_BACK, "gone"
        update.ended_at = update.cleaned_at = utcnow() - timedelta(days=days_ago)
        update.rollout.state = RolloutState.COMPLETED
    return f"{site.images.repository}@{digest}"


def test_unneeded_image_is_removed_after_a_week(site: Site) -> None:
    old, young = add_pulled_image(site, days_ago=8), add_pulled_image(site, days_ago=6)

    assert collect(site) == [old]
    with pytest.raises(ImageNotFound):
        site.engine.inspect_image(old)  # type: ignore[no-untyped-call]
    site.engine.inspect_image(young)  # type: ignore[no-untyped-call]
    site.engine.remove_image(young)


def test_tagged_or_used_image_is_kept(site: Site) -> None:
    tagged, used = add_pulled_image(site, days_ago=9), add_pulled_image(site, days_ago=10)
    site.engine.tag(tagged, "other", "tag")
    container = site.engine.create_container(used, labels=dict(site.labels))["Id"]

    assert collect(site) == []
    site.engine.inspect_image(tagged)  # type: ignore[no-untyped-call]
    site.engine.inspect_image(used)  # type: ignore[no-untyped-call]

    site.engine.remove_container(container, v=True)
    site.engine.remove_image("other:tag")
    assert collect(site) == sorted([tagged, used])
