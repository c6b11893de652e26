"""Whose changelog is to be read, by whom, and how long a failure waits."""

from __future__ import annotations

from datetime import timedelta

from portal.database import Database
from portal.models import Node, NodeState, Release, utcnow
from portal.services.releases import changelogs
from portal.services.releases.changelogs import ClaimedReading

NOW = utcnow()
DIGEST = "sha256:" + 64 * "a"


def add_release(database: Database, platforms: dict[str, str] | None = None) -> Release:
    with database.transaction() as session:
        release = Release(
            repository="registry.test/bot",
            image="registry.test/bot:stable",
            digest=DIGEST,
            platform_digests=platforms or {},
        )
        session.add(release)
    return release


def add_node(
    database: Database, name: str, platform: str = "linux/amd64", state: NodeState = NodeState.ACTIVE
) -> None:
    with database.transaction() as session:
        session.add(Node(name=name, docker_url="unix:///x", snapshot_dir="/x/y", platform=platform, state=state))


def claim(database: Database, release: Release, later: timedelta = timedelta()) -> ClaimedReading | None:
    with database.transaction() as session:
        return changelogs.claim_reading(session, release.id, NOW + later)


def is_due(database: Database, release: Release, later: timedelta = timedelta()) -> bool:
    with database.reading() as session:
        return release.id in changelogs.list_due(session, NOW + later)


def test_one_worker_reads_and_another_may_try_when_it_died(database: Database) -> None:
    release = add_release(database)
    assert is_due(database, release)

    reading = claim(database, release)

    assert reading is not None
    assert reading.image == f"registry.test/bot@{DIGEST}"
    assert claim(database, release) is None
    assert not is_due(database, release)
    assert claim(database, release, timedelta(minutes=11)) is not None


def test_only_active_nodes_of_the_right_platform_are_asked(database: Database) -> None:
    release = add_release(database, {"linux/arm64": DIGEST})
    add_node(database, "intel")
    add_node(database, "away", "linux/arm64", NodeState.OFFLINE)
    add_node(database, "arm", "linux/arm64")

    reading = claim(database, release)

    assert reading is not None
    assert [node.name for node in reading.nodes] == ["arm"]


def test_what_was_read_is_never_due_again(database: Database) -> None:
    release = add_release(database)
    claim(database, release)

    with database.transaction() as session:
        changelogs.record_changelog(session, release.id, None, NOW)

    assert not is_due(database, release, timedelta(days=365))


def test_failures_wait_longer_and_longer_but_never_more_than_a_day(database: Database) -> None:
    release = add_release(database)
    pauses = []
    moment = NOW
    for _ in range(16):
        with database.transaction() as session:
            assert changelogs.claim_reading(session, release.id, moment) is not None
            changelogs.record_failure(session, release.id, "registry down", moment)
        with database.reading() as session:
            again = session.get_one(Release, release.id).changelog_next_at
        assert again is not None
        pauses.append(again - moment)
        moment = again

    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[1]
    assert pauses[-1] == timedelta(days=1)
