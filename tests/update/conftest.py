"""A bot to update."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import docker
import pytest
import requests

from portal.database import Database
from portal.settings import Settings
from tests.support.images import ReferenceImages
from tests.update.bots import NOTE, Site
from tests.update.volumes import fill_with_oddities


@pytest.fixture
def empty_site(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient,
    reference_images: ReferenceImages,
    registry: str,
    snapshot_image: str,
    run_labels: dict[str, str],
    database: Database,
    settings: Settings,
    tmp_path: Path,
) -> Iterator[Site]:
    """A node without a bot."""
    site = Site(
        engine,
        database,
        replace(
            settings,
            fleet_image_allowlist=(f"{registry}/flotilla",),
            snapshot_image=snapshot_image,
            registry_config=tmp_path / "no such file",
            health_timeout=timedelta(seconds=20),
            health_interval=timedelta(seconds=0.5),
        ),
        reference_images,
        run_labels,
    )
    yield site
    site.remove()


@pytest.fixture
def site(empty_site: Site, docker_url: str, tmp_path: Path) -> Site:
    """A node with a running bot that keeps a note, and files of every kind in both of its volumes."""
    empty_site.add_bot(docker_url=docker_url, folder=tmp_path)
    for root in empty_site.roots():
        (root / "odd").mkdir()
        fill_with_oddities(root / "odd")
    wait_for(empty_site)
    empty_site.add_note(NOTE)
    return empty_site


def wait_for(site: Site) -> None:
    """Wait until the bot answers."""
    for _ in range(100):
        try:
            site.notes()
        except requests.RequestException:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the bot does not answer")
