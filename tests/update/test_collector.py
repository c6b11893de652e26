"""The collector takes what a finished update left, and nothing that anybody could still need."""

from collections.abc import Callable

import pytest

from daemon.demo.versions import SECOND
from daemon.update.collector import collect_node
from daemon.update.names import INSTALL_LABEL
from portal.models import BotUpdate, FleetSettings, UpdateState, new_id, utcnow
from tests.update.bots import Site

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
