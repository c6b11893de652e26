"""An update and a rollback with all parts together: commands, scheduler, worker, Redis, registry and engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import sqlalchemy as sa

from demo.fork import DemoFork
from demo.images import build_bot_from_source
from demo.seed import read_notes, start_container, write_note
from demo.versions import CORRUPTING, FIRST, SECOND
from portal.database import Database
from portal.models import Bot, Release
from portal.settings import Settings
from tests.daemon.processes import end, running, wait_until
from tests.support.cast import SignedIn
from tests.support.images import ReferenceImages
from tests.support.mail import Mailbox

pytestmark = [pytest.mark.docker, pytest.mark.registry]

TAG = "pipeline"


@dataclass(frozen=True)
class Installation:
    """An installation with an engine and a registry."""

    database: Database
    engine: docker.APIClient
    images: ReferenceImages
    folder: Path
    labels: dict[str, str]

    @property
    def image(self) -> str:
        """The image that the bot follows."""
        return f"{self.images.repository}:{TAG}"


@pytest.fixture
def parts(
    engine: docker.APIClient, reference_images: ReferenceImages, run_labels: dict[str, str]
) -> Callable[..., Installation]:
    """Return a function that combines the parts that all tests of a run share."""

    def installation(database: Database, folder: Path) -> Installation:
        return Installation(database, engine, reference_images, folder, run_labels)

    return installation


@pytest.fixture
def environment(
    settings: Settings, redis_url: str, registry: str, snapshot_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set the environment of every process."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("FLEET_IMAGE_ALLOWLIST", registry)
    monkeypatch.setenv("SNAPSHOT_IMAGE", snapshot_image)
    monkeypatch.setenv("REGISTRY_CONFIG", str(settings.data_dir / "none.json"))
    monkeypatch.setenv("POLL_SECONDS", "1")
    monkeypatch.setenv("HEALTH_TIMEOUT_SECONDS", "20")
    monkeypatch.setenv("HEALTH_INTERVAL_SECONDS", "0.5")


@pytest.fixture
def mail_server(smtp: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the mail server."""
    monkeypatch.setenv("MAIL_SERVER", smtp.host)
    monkeypatch.setenv("MAIL_PORT", str(smtp.port))


@pytest.fixture
def installation(
    environment: None, mail_server: None, database: Database, parts: Callable[..., Installation], tmp_path: Path
) -> Iterator[Installation]:
    """Return an installation with running worker and scheduler."""
    installation = parts(database, tmp_path)
    with (
        running("daemon.cli", "worker", log=tmp_path / "worker") as worker,
        running("daemon.cli", "scheduler", log=tmp_path / "scheduler") as scheduler,
    ):
        yield installation
        assert end(scheduler) == 0
        assert end(worker) == 0
    lines = [*(tmp_path / "worker").read_text().splitlines(), *(tmp_path / "scheduler").read_text().splitlines()]
    print("\n".join(lines))  # noqa: T201 - shown when a test fails
    # A failed update may log an error, but no job and no tick of the scheduler may fail.
    assert not [line for line in lines if " ERROR " in line and " daemon.jobs: " in line]
    assert not [line for line in lines if " ERROR " in line and " daemon.scheduler: " in line]


def flotilla(*arguments: str) -> str:
    """Run a command that must succeed and return its output."""
    code, output = run_command(*arguments)
    assert code == 0, output
    return output


def run_command(*arguments: str) -> tuple[int, str]:
    """Run a command and return its exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "daemon.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env=os.environ,
    )
    return done.returncode, done.stdout + done.stderr


def load_version(installation: Installation, digest: str) -> str | None:
    """Return the version of a release, or None before its changelog is read."""
    with installation.database.reading() as session:
        release = session.scalar(sa.select(Release).where(Release.digest == digest))
        return release.version if release is not None and release.changelog else None


def load_address(installation: Installation) -> str:
    """Return the current address of the bot."""
    with installation.database.reading() as session:
        return str(session.scalars(sa.select(Bot)).one().address)


def test_good_release_is_installed_and_bad_release_is_rolled_back(
    installation: Installation, docker_url: str
) -> None:
    installation.images.publish(FIRST, TAG)
    at = start_container(installation.engine, installation.image, "pipeline-desk", installation.labels)
    write_note(at, "the first note")
    notes = read_notes(at)

    flotilla(
        "nodes", "add", "local", "--docker-url", docker_url, "--snapshot-dir", str(installation.folder / "snapshots")
    )
    flotilla("orgs", "create", "acme", "--name", "Acme", "--owner", "ada@acme.test")
    flotilla("bots", "adopt", "pipeline-desk", "--org", "acme", "--node", "local")
    good = installation.images.publish(SECOND, TAG)
    wait_until(
        lambda: load_version(installation, good) == SECOND.version, "the good release and its changelog are known", 90
    )
    assert SECOND.version in flotilla("rollouts", "start", installation.image, "--all", "--now", "--follow")
    assert read_notes(load_address(installation)) == notes

    bad = installation.images.publish(CORRUPTING, TAG)
    wait_until(lambda: load_version(installation, bad) == CORRUPTING.version, "the bad release is known")
    code, output = run_command("bots", "update", "pipeline-desk", "--follow")

    assert code == 1
    assert "rolled back" in output
    assert read_notes(load_address(installation)) == notes
    assert SECOND.version in flotilla("bots", "list")
    healthy = flotilla("doctor")
    assert "ok      engine local: running" in healthy
    assert "snapshots possible" in healthy
    assert "ok      mail" in healthy


def test_a_commit_of_upstream_reaches_the_dialog_of_the_customer(
    installation: Installation, docker_url: str, registry: str, signed_in: SignedIn
) -> None:
    snapshots = str(installation.folder / "snapshots")
    installation.images.publish(FIRST, TAG)
    start_container(installation.engine, installation.image, "pipeline-fork", installation.labels)
    flotilla("nodes", "add", "local", "--docker-url", docker_url, "--snapshot-dir", snapshots)
    flotilla("bots", "adopt", "pipeline-fork", "--org", "acme", "--node", "local")
    fork = DemoFork(installation.folder / "fork")
    fork.create()
    fork.change_upstream("2.0.0", "feat: add dark theme to the notes (#12)")

    code, output = run_command("upstream", "sync", "--push", "--repo", str(fork.checkout))
    assert code == 1
    assert "New: ui/src/Adapters.tsx:2 uses adapterType without a guard" in output
    fork.merge()
    digest = build_bot_from_source(installation.engine, registry, fork.archive(), TAG, installation.labels)
    wait_until(lambda: load_version(installation, digest) is not None, "the release and its changelog are known", 90)

    with installation.database.reading() as session:
        bot = session.scalars(sa.select(Bot)).one().id
    page = signed_in("alice").get(f"/o/acme/bots/{bot}/changelog").text
    assert "Dark theme for the notes" in page
    assert "dapter" not in page
    assert "Update now" in page
