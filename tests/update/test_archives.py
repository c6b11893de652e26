"""Archives that outlived their update: deleted when a person says so, and never while anybody may need them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.demo.versions import SECOND
from daemon.update import archives
from daemon.update.lease import BotLease
from portal.models import Bot, BotUpdate, Event, Node, Snapshot, SnapshotState, UpdateState
from portal.services.bot_leases import BotBusy
from portal.services.errors import ConflictError, NotFoundError
from tests.update.bots import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]


@pytest.fixture
def archive(site: Site) -> Path:
    """What an update that could not be taken back left on the node's disk; a person has put the bot right since."""
    update_id = site.update_to(SECOND)
    with site.database.transaction() as session:
        session.get_one(BotUpdate, update_id).state = UpdateState.NEEDS_ATTENTION
        file = Path(session.scalars(sa.select(Node.snapshot_dir)).one()) / f"{update_id}-1.tar"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"all there is")
        node_id = session.get_one(Bot, site.bot_id).node_id
        session.add(
            Snapshot(
                id="kept", update_id=update_id, node_id=node_id, volume=site.volume, archive=str(file),
                state=SnapshotState.VERIFIED,
            )
        )  # fmt: skip
    return file


def delete(site: Site) -> None:
    archives.delete(site.database, site.settings, "kept")


def state(site: Site) -> SnapshotState:
    with site.database.reading() as session:
        return session.get_one(Snapshot, "kept").state


def test_a_needless_archive_goes_and_that_is_written_down(site: Site, archive: Path) -> None:
    neighbour = archive.with_name("another.tar")
    neighbour.touch()

    delete(site)

    assert (archive.exists(), neighbour.exists()) == (False, True)
    assert state(site) is SnapshotState.DELETED
    with site.database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == "snapshot.deleted")).one()
    assert (event.bot_id, event.data["archive"]) == (site.bot_id, str(archive))
    neighbour.unlink()
    assert site.left_behind() == []
    with pytest.raises(NotFoundError):
        delete(site)


def test_one_that_somebody_removed_already_is_only_written_down(site: Site, archive: Path) -> None:
    archive.unlink()

    delete(site)

    assert state(site) is SnapshotState.DELETED


def test_while_somebody_may_need_it_it_stays(site: Site, archive: Path) -> None:
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).needs_attention = "docker start 1234"
    with pytest.raises(ConflictError, match="flotilla bots clear"):
        delete(site)

    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).needs_attention = None
        session.scalars(sa.select(BotUpdate)).one().state = UpdateState.RUNNING
    with pytest.raises(ConflictError, match="under way"):
        delete(site)

    with BotLease(site.database, site.bot_id), pytest.raises(BotBusy):
        delete(site)

    assert archive.read_bytes() == b"all there is"
    assert state(site) is SnapshotState.VERIFIED
