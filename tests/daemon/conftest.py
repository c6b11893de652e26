"""Fixtures for the background processes and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import docker
import pytest
from click.testing import CliRunner, Result

from daemon import cli, context
from portal.database import Database
from portal.settings import Settings
from tests.support.images import ReferenceImages
from tests.support.site import NOTE, Site, wait_until_answering
from tests.support.volumes import fill_with_every_kind_of_entry

Flotilla = Callable[..., Result]


@pytest.fixture
def fresh_context() -> Iterator[None]:
    """Let this process read its settings again, and drop them afterwards."""
    context.current_context.cache_clear()
    yield
    if context.current_context.cache_info().currsize:
        context.current_context().database.dispose()
        context.current_context().redis.close()
    context.current_context.cache_clear()


@pytest.fixture
def flotilla(settings: Settings, fresh_context: None, monkeypatch: pytest.MonkeyPatch) -> Flotilla:
    """Run the `flotilla` command on this test's database: `flotilla("nodes", "list")`."""
    monkeypatch.setenv("FLEET_IMAGE_ALLOWLIST", "registry.test")

    def run(*arguments: str, stdin: str | BytesIO = "") -> Result:
        result = CliRunner().invoke(cli.main, arguments, input=stdin, prog_name="flotilla")
        assert "Traceback" not in result.output
        return result

    return run


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
            health_check_timeout=timedelta(seconds=20),
            health_interval=timedelta(seconds=0.5),
        ),
        reference_images,
        run_labels,
    )
    yield site
    site.remove()


@pytest.fixture
def site(empty_site: Site, docker_url: str, tmp_path: Path) -> Site:
    """A node with a running bot that has a note, and files of every kind in both of its volumes."""
    empty_site.add_bot(docker_url=docker_url, folder=tmp_path)
    for root in empty_site.roots():
        (root / "entries").mkdir()
        fill_with_every_kind_of_entry(root / "entries")
    wait_until_answering(empty_site)
    empty_site.add_note(NOTE)
    return empty_site
