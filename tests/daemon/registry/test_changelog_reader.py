"""Changelogs of releases in a real registry, read by a real engine and written down."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import docker
import pytest
import sqlalchemy as sa

from daemon.registry import changelog_reader
from demo.versions import SECOND, WITHOUT_CHANGELOG, BotVersion
from portal.database import Database
from portal.models import Node, ReadingPull, Release, utcnow
from portal.services.bots import leftovers
from portal.settings import Settings
from tests.support.images import ReferenceImages

pytestmark = [pytest.mark.docker, pytest.mark.registry]


@pytest.fixture
def admitted(settings: Settings, registry: str, tmp_path: Path) -> Settings:
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
    changelog_reader.read_and_record(database, settings, release.id, utcnow())
    with database.reading() as session:
        return session.get_one(Release, release.id)


def test_the_changelog_is_read_out_of_the_image(
    database: Database,
    admitted: Settings,
    docker_url: str,
    engine: docker.APIClient,
    reference_images: ReferenceImages,
) -> None:
    add_node(database, docker_url)
    before = len(engine.containers(all=True))

    release = read(database, admitted, add_release(database, reference_images, SECOND))

    assert release.version == SECOND.version
    assert release.changelog_error is None
    assert len(engine.containers(all=True)) == before


def pulled_to_be_read(database: Database, release: Release) -> int:
    """On how many nodes the image of a release is only because its changelog was read."""
    with database.reading() as session:
        pulls = sa.select(sa.func.count()).select_from(ReadingPull).where(ReadingPull.release_id == release.id)
        return session.scalar(pulls) or 0


def test_an_image_that_was_not_there_is_ours_to_remove_again(
    database: Database,
    admitted: Settings,
    docker_url: str,
    engine: docker.APIClient,
    reference_images: ReferenceImages,
) -> None:
    add_node(database, docker_url)
    version = replace(SECOND, version="7.1.0")
    release = add_release(database, reference_images, version)
    engine.remove_image(f"{reference_images.repository}:{version.version}")

    assert read(database, admitted, release).version == version.version

    assert pulled_to_be_read(database, release) == 1
    with database.reading() as session:
        node = session.scalars(sa.select(Node)).one()
        (over,) = leftovers.list_unneeded_images(session, node.id, utcnow() + timedelta(seconds=1))
    assert over == f"{reference_images.repository}@{release.digest}"
    engine.remove_image(over)


def test_an_image_that_was_there_is_not(
    database: Database, admitted: Settings, docker_url: str, reference_images: ReferenceImages
) -> None:
    add_node(database, docker_url)

    release = read(database, admitted, add_release(database, reference_images, SECOND))

    assert release.changelog is not None
    assert pulled_to_be_read(database, release) == 0


def test_an_image_without_changelog_is_read_once(
    database: Database, admitted: Settings, docker_url: str, reference_images: ReferenceImages
) -> None:
    add_node(database, docker_url)

    release = read(database, admitted, add_release(database, reference_images, WITHOUT_CHANGELOG))

    assert release.changelog is None
    assert release.changelog_error is None
    assert release.changelog_read_at is not None


def test_a_node_that_does_not_answer_is_passed_over(
    database: Database, admitted: Settings, docker_url: str, reference_images: ReferenceImages
) -> None:
    add_node(database, "tcp://127.0.0.1:1", "first")
    add_node(database, docker_url, "second")

    assert read(database, admitted, add_release(database, reference_images, SECOND)).changelog is not None


def test_without_an_engine_it_is_put_off_and_says_why(
    database: Database, admitted: Settings, reference_images: ReferenceImages
) -> None:
    release = read(database, admitted, add_release(database, reference_images, SECOND))

    assert release.changelog_read_at is None
    assert release.changelog_next_at is not None
    assert "No active node" in str(release.changelog_error)


def test_an_image_outside_the_allowlist_is_not_pulled(
    database: Database, settings: Settings, docker_url: str, reference_images: ReferenceImages
) -> None:
    add_node(database, docker_url)

    release = read(database, settings, add_release(database, reference_images, SECOND))

    assert release.changelog is None
    assert "FLEET_IMAGE_ALLOWLIST" in str(release.changelog_error)
