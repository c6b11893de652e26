"""Deletion of archives that were kept after their update."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.bot_lease import BotLease
from daemon.snapshots import deletion
from portal.models import Bot, BotUpdate, Event, Snapshot, SnapshotState, UpdateState
from portal.services.bots.leases import BotBusy
from portal.services.errors import ConflictError, NotFoundError
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]


@pytest.fixture
def archive(site: Site) -> Path:
    """Archive of an update whose rollback failed."""
    return site.leave_archive()


def delete(site: Site) -> None:
    """Delete the only archive."""
    with site.database.reading() as session:
        snapshot_id = session.scalars(sa.select(Snapshot.id)).one()
    deletion.delete_snapshot(site.database, site.settings, snapshot_id)


def state(site: Site) -> SnapshotState:
    """Return the recorded state of the only archive."""
    with site.database.reading() as session:
        return session.scalars(sa.select(Snapshot)).one().state


def test_unneeded_archive_is_deleted_and_recorded(site: Site, archive: Path) -> None:
    neighbour = archive.with_name("another.tar")
    neighbour.touch()

    delete(site)

    assert (archive.exists(), neighbour.exists()) == (False, True)
    assert state(site) is SnapshotState.DELETED
    with site.database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == "snapshot.deleted")).one()
    assert (event.bot_id, event.data["archive"]) == (site.bot_id, str(archive))
    neighbour.unlink()
    assert site.leftovers() == []
    with pytest.raises(NotFoundError):
        delete(site)


def test_deletion_of_a_missing_archive_is_recorded(site: Site, archive: Path) -> None:
    archive.unlink()

    delete(site)

    assert state(site) is SnapshotState.DELETED


def test_archive_that_may_be_needed_is_kept(site: Site, archive: Path) -> None:
    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).needs_attention = "docker start 1234"
    with pytest.raises(ConflictError, match="flotilla bots clear"):
        delete(site)

    with site.database.transaction() as session:
        session.get_one(Bot, site.bot_id).needs_attention = None
        session.scalars(sa.select(BotUpdate)).one().state = UpdateState.RUNNING
    with pytest.raises(ConflictError, match="is running"):
        delete(site)

    with BotLease(site.database, site.bot_id), pytest.raises(BotBusy):
        delete(site)

    assert archive.read_bytes() == site.ARCHIVED
    assert state(site) is SnapshotState.VERIFIED
