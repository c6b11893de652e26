"""Reading changelogs of releases with a real registry and a real engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import docker
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import undefer

from daemon.registry import changelog_job
from demo.versions import SECOND, WITHOUT_CHANGELOG, BotVersion
from portal.database import Database
from portal.models import Node, ReadingPull, Release, utcnow
from portal.services.bots import leftovers
from portal.settings import Settings
from tests.support.images import ReferenceImages

pytestmark = [pytest.mark.docker, pytest.mark.registry]


@pytest.fixture
def settings_with_registry(settings: Settings, registry: str, tmp_path: Path) -> Settings:
    return replace(settings, fleet_image_allowlist=(registry,), registry_config=tmp_path / "none.json")


def add_node(database: Database, docker_url: str, name: str = "one") -> None:
    with database.transaction() as session:
        session.add(Node(name=name, docker_url=docker_url, snapshot_dir="/var/lib/flotilla-test"))


def add_release(database: Database, images: ReferenceImages, version: BotVersion) -> Release:
    with database.transaction() as session:
        release = Release(
            repository=images.repository, image=f"{images.repository}:stable", digest=images.digest(version)
        )
        session.add(release)
    return release


def read(database: Database, settings: Settings, release: Release) -> Release:
    changelog_job.read_and_record(database, settings, release.id, utcnow())
    with database.reading() as session:
        return session.get_one(Release, release.id, options=[undefer(Release.changelog)])


def test_changelog_is_read_from_the_image(
    database: Database,
    settings_with_registry: Settings,
    docker_url: str,
    engine: docker.APIClient,
    reference_images: ReferenceImages,
) -> None:
    add_node(database, docker_url)
    before = len(engine.containers(all=True))

    release = read(database, settings_with_registry, add_release(database, reference_images, SECOND))

    assert release.version == SECOND.version
    assert release.changelog_error is None
    assert len(engine.containers(all=True)) == before


def count_reading_pulls(database: Database, release: Release) -> int:
    """Return the number of nodes that pulled the image only to read its changelog."""
    with database.reading() as session:
        pulls = sa.select(sa.func.count()).select_from(ReadingPull).where(ReadingPull.release_id == release.id)
        return session.scalar(pulls) or 0


def test_image_pulled_for_reading_is_marked_for_removal(
    database: Database,
    settings_with_registry: Settings,
    docker_url: str,
    engine: docker.APIClient,
    reference_images: ReferenceImages,
) -> None:
    add_node(database, docker_url)
    version = replace(SECOND, version="7.1.0")
    release = add_release(database, reference_images, version)
    engine.remove_image(f"{reference_images.repository}:{version.version}")

    assert read(database, settings_with_registry, release).version == version.version

    assert count_reading_pulls(database, release) == 1
    with database.reading() as session:
        node = session.scalars(sa.select(Node)).one()
        (unneeded,) = leftovers.list_unneeded_images(session, node.id, utcnow() + timedelta(seconds=1))
    assert unneeded == f"{reference_images.repository}@{release.digest}"
    engine.remove_image(unneeded)


def test_image_that_was_already_there_is_not_marked_for_removal(
    database: Database, settings_with_registry: Settings, docker_url: str, reference_images: ReferenceImages
) -> None:
    add_node(database, docker_url)

    release = read(database, settings_with_registry, add_release(database, reference_images, SECOND))

    assert release.changelog is not None
    assert count_reading_pulls(database, release) == 0


def test_image_without_changelog_is_not_read_again(
    database: Database, settings_with_registry: Settings, docker_url: str, reference_images: ReferenceImages
) -> None:
    add_node(database, docker_url)

    release = read(database, settings_with_registry, add_release(database, reference_images, WITHOUT_CHANGELOG))

    assert release.changelog is None
    assert release.changelog_error is None
    assert release.changelog_read_at is not None


def test_unreachable_node_is_skipped(
    database: Database, settings_with_registry: Settings, docker_url: str, reference_images: ReferenceImages
) -> None:
    add_node(database, "tcp://127.0.0.1:1", "first")
    add_node(database, docker_url, "second")

    assert (
        read(database, settings_with_registry, add_release(database, reference_images, SECOND)).changelog is not None
    )


def test_reading_is_postponed_when_no_engine_answers(
    database: Database, settings_with_registry: Settings, reference_images: ReferenceImages
) -> None:
    release = read(database, settings_with_registry, add_release(database, reference_images, SECOND))

    assert release.changelog_read_at is None
    assert release.changelog_next_at is not None
    assert "No active node" in str(release.changelog_error)


def test_image_outside_the_allowlist_is_not_pulled(
    database: Database, settings: Settings, docker_url: str, reference_images: ReferenceImages
) -> None:
    add_node(database, docker_url)

    release = read(database, settings, add_release(database, reference_images, SECOND))

    assert release.changelog is None
    assert "FLEET_IMAGE_ALLOWLIST" in str(release.changelog_error)
