"""Reading of changelogs: claims, nodes, and waits after failures."""

from __future__ import annotations

from datetime import timedelta

from portal.database import Database
from portal.models import NodeState, Release, utcnow
from portal.services.releases import changelogs
from portal.services.releases.changelogs import ClaimedReading
from tests import factories

NOW = utcnow()
DIGEST = "sha256:" + 64 * "a"


def add_release(database: Database, platforms: dict[str, str] | None = None) -> Release:
    with database.transaction() as session:
        return factories.release(session, digest=DIGEST, changelog=None, platform_digests=platforms or {})


def add_node(
    database: Database, name: str, platform: str = "linux/amd64", state: NodeState = NodeState.ACTIVE
) -> None:
    with database.transaction() as session:
        factories.node(session, name, platform=platform, state=state)


def claim(database: Database, release: Release, later: timedelta = timedelta()) -> ClaimedReading | None:
    with database.transaction() as session:
        return changelogs.claim_reading(session, release.id, NOW + later)


def is_due(database: Database, release: Release, later: timedelta = timedelta()) -> bool:
    with database.reading() as session:
        return release.id in changelogs.list_due(session, NOW + later)


def test_a_changelog_is_claimed_by_one_worker_until_the_claim_expires(database: Database) -> None:
    release = add_release(database)
    assert is_due(database, release)

    reading = claim(database, release)

    assert reading is not None
    assert reading.image == f"{factories.REPOSITORY}@{DIGEST}"
    assert claim(database, release) is None
    assert not is_due(database, release)
    assert claim(database, release, timedelta(minutes=11)) is not None


def test_only_active_nodes_of_a_platform_of_the_release_are_listed(database: Database) -> None:
    release = add_release(database, {"linux/arm64": DIGEST})
    add_node(database, "intel")
    add_node(database, "away", "linux/arm64", NodeState.OFFLINE)
    add_node(database, "arm", "linux/arm64")

    reading = claim(database, release)

    assert reading is not None
    assert [node.name for node in reading.nodes] == ["arm"]


def test_a_read_changelog_is_never_due_again(database: Database) -> None:
    release = add_release(database)
    claim(database, release)

    with database.transaction() as session:
        changelogs.record_changelog(session, release.id, None, NOW)

    assert not is_due(database, release, timedelta(days=365))


def test_the_wait_after_failures_grows_up_to_a_day(database: Database) -> None:
    release = add_release(database)
    pauses = []
    now = NOW
    for _ in range(16):
        with database.transaction() as session:
            assert changelogs.claim_reading(session, release.id, now) is not None
            changelogs.record_failure(session, release.id, "registry down", now)
        with database.reading() as session:
            again = session.get_one(Release, release.id).changelog_next_at
        assert again is not None
        pauses.append(again - now)
        now = again

    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[1]
    assert pauses[-1] == timedelta(days=1)
