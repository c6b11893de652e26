"""The collector takes what a finished update left, and nothing that anybody could still need."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from docker.errors import ImageNotFound

from daemon.bots import collector
from daemon.bots.collector import collect_node
from daemon.engine.client import pull
from daemon.engine.labels import INSTALL_LABEL
from demo.versions import SECOND
from portal.models import BotUpdate, FleetSettings, RolloutState, UpdateState, new_id, utcnow
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def make(site: Site, name: str, *, install: str | None = None) -> str:
    """Create a container that bears the label of an installation, ours unless said otherwise."""
    with site.database.reading() as session:
        ours = session.get_one(FleetSettings, 1).install_id
    labels = {**site.labels, INSTALL_LABEL: install or ours}
    return str(site.engine.create_container(site.settings.snapshot_image, ["true"], name=name, labels=labels)["Id"])


def update_in(site: Site, state: UpdateState, *, cleaned: bool) -> str:
    """An update of the bot that stands as given."""
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        update.state, update.cleaned_at = state, utcnow() if cleaned else None
    return update_id


def collect(site: Site) -> list[str]:
    """What the collector removed from the bot's node."""
    return sorted(collect_node(site.database, site.bot().node_id))


ROLES = ["delete", "new", "old", "probe", "restore-2", "snap-1"]


@pytest.mark.parametrize(
    "state", [UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.SKIPPED]
)
def test_what_a_finished_update_left_is_removed(site: Site, state: UpdateState) -> None:
    update_id = update_in(site, state, cleaned=True)
    names = [f"flotilla-{update_id}-{role}" for role in ROLES]
    for name in names:
        make(site, name)

    assert collect(site) == names
    assert site.left_behind() == []
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
def test_what_an_update_may_still_need_stays(site: Site, state: UpdateState, cleaned: bool) -> None:
    update_id = update_in(site, state, cleaned=cleaned)
    for role in ROLES:
        make(site, f"flotilla-{update_id}-{role}")

    assert collect(site) == []
    assert len(site.left_behind()) == len(ROLES)


def others(update_id: str) -> dict[str, Callable[[Site], str]]:
    """Containers that are none of the collector's business, and how they come to be."""
    return {
        "another installation's": lambda site: make(site, f"flotilla-{update_id}-new", install=new_id()),
        "a name of its own": lambda site: make(site, f"customer-{update_id}"),
        "a name that only begins alike": lambda site: make(site, f"flotilla-{update_id}-new-database"),
        "an unknown update's": lambda site: make(site, f"flotilla-{new_id()}-old"),
    }


@pytest.mark.parametrize("kind", others(""))
def test_what_is_none_of_its_business_stays(site: Site, kind: str) -> None:
    container = others(update_in(site, UpdateState.UPDATED, cleaned=True))[kind](site)

    assert collect(site) == []
    site.engine.inspect_container(container)
    site.engine.remove_container(container)


def test_a_bots_container_stays_even_under_a_temporary_name(site: Site) -> None:
    update_id = update_in(site, UpdateState.UPDATED, cleaned=True)
    container = make(site, f"flotilla-{update_id}-old")
    with site.database.transaction() as session:
        session.get_one(BotUpdate, update_id).bot.container_id = container

    assert collect(site) == []


def test_the_data_of_a_removed_container_stays(site: Site) -> None:
    update_id = update_in(site, UpdateState.UPDATED, cleaned=True)
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


def test_a_container_left_by_a_reader_of_changelogs_is_removed_when_that_is_long_ago(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"flotilla-changelog-{new_id()}"
    make(site, name)
    make(site, f"flotilla-changelog-{new_id()}", install=new_id())

    assert collect(site) == []
    monkeypatch.setattr(collector, "_READING_IS_OVER_AFTER", timedelta(0))
    assert collect(site) == [name]


def pulled(site: Site, *, days_ago: int) -> str:
    """The image of a release that an update tried in vain so many days ago, as a pull by digest leaves it."""
    version = replace(SECOND, version=f"9.9.{days_ago}")
    digest = site.images.digest(version)
    with suppress(ImageNotFound):  # another test of this run may have had it already
        site.engine.remove_image(f"{site.images.repository}:{version.version}")
    pull(site.engine, site.images.reference(version), None)
    update_id = site.update_to(version)
    with site.database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        update.state, update.new_container_id = UpdateState.ROLLED_BACK, "gone"
        update.ended_at = update.cleaned_at = utcnow() - timedelta(days=days_ago)
        update.rollout.state = RolloutState.COMPLETED
    return f"{site.images.repository}@{digest}"


def test_an_image_nobody_needs_goes_after_a_week(site: Site) -> None:
    old, young = pulled(site, days_ago=8), pulled(site, days_ago=6)

    assert collect(site) == [old]
    with pytest.raises(ImageNotFound):
        site.engine.inspect_image(old)  # type: ignore[no-untyped-call]
    site.engine.inspect_image(young)  # type: ignore[no-untyped-call]
    site.engine.remove_image(young)


def test_an_image_that_somebody_else_uses_stays(site: Site) -> None:
    tagged, used = pulled(site, days_ago=9), pulled(site, days_ago=10)
    site.engine.tag(tagged, "somebodys", "own")
    container = site.engine.create_container(used, labels=dict(site.labels))["Id"]

    assert collect(site) == []
    site.engine.inspect_image(tagged)  # type: ignore[no-untyped-call]
    site.engine.inspect_image(used)  # type: ignore[no-untyped-call]

    site.engine.remove_container(container, v=True)
    site.engine.remove_image("somebodys:own")
    assert collect(site) == sorted([tagged, used])
