"""Command line, scheduler, worker, Redis, registry and engine together, as on an operator's machine."""

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

from demo.seed import read_notes, start_by_hand, write_note
from demo.versions import CORRUPTING, FIRST, SECOND
from portal.database import Database
from portal.models import Bot, Release
from portal.settings import Settings
from tests.daemon.processes import end, running, wait_until
from tests.support.images import ReferenceImages
from tests.support.mail import Mailbox

pytestmark = [pytest.mark.docker, pytest.mark.registry]

TAG = "pipeline"


@dataclass(frozen=True)
class Place:
    """Where everything runs."""

    database: Database
    engine: docker.APIClient
    images: ReferenceImages
    folder: Path
    labels: dict[str, str]

    @property
    def image(self) -> str:
        """What the bot follows."""
        return f"{self.images.repository}:{TAG}"


@pytest.fixture
def parts(
    engine: docker.APIClient, reference_images: ReferenceImages, run_labels: dict[str, str]
) -> Callable[..., Place]:
    """The parts that all tests of a run share."""

    def place(database: Database, folder: Path) -> Place:
        return Place(database, engine, reference_images, folder, run_labels)

    return place


@pytest.fixture
def surroundings(
    settings: Settings, redis_url: str, registry: str, snapshot_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of every process."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("FLEET_IMAGE_ALLOWLIST", registry)
    monkeypatch.setenv("SNAPSHOT_IMAGE", snapshot_image)
    monkeypatch.setenv("REGISTRY_CONFIG", str(settings.data_dir / "none.json"))
    monkeypatch.setenv("POLL_SECONDS", "1")
    monkeypatch.setenv("HEALTH_TIMEOUT_SECONDS", "20")
    monkeypatch.setenv("HEALTH_INTERVAL_SECONDS", "0.5")


@pytest.fixture
def mail_server(smtp: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mails go."""
    monkeypatch.setenv("MAIL_SERVER", smtp.host)
    monkeypatch.setenv("MAIL_PORT", str(smtp.port))


@pytest.fixture
def place(
    surroundings: None, mail_server: None, database: Database, parts: Callable[..., Place], tmp_path: Path
) -> Iterator[Place]:
    """Everything there is, with worker and scheduler running."""
    place = parts(database, tmp_path)
    with (
        running("daemon.cli", "worker", log=tmp_path / "worker") as worker,
        running("daemon.cli", "scheduler", log=tmp_path / "scheduler") as scheduler,
    ):
        yield place
        assert end(scheduler) == 0
        assert end(worker) == 0
    lines = [*(tmp_path / "worker").read_text().splitlines(), *(tmp_path / "scheduler").read_text().splitlines()]
    print("\n".join(lines))  # noqa: T201 - shown when a test fails
    # An update that fails tells why, with its traceback; no job and no turn of the scheduler may fail.
    assert not [line for line in lines if " ERROR " in line and " daemon.jobs: " in line]
    assert not [line for line in lines if " ERROR " in line and " daemon.scheduler: " in line]


def flotilla(*arguments: str) -> str:
    """Run a command that must succeed."""
    code, output = attempt(*arguments)
    assert code == 0, output
    return output


def attempt(*arguments: str) -> tuple[int, str]:
    """Run a command; its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "daemon.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env=os.environ,
    )
    return done.returncode, done.stdout + done.stderr


def version_of(place: Place, digest: str) -> str | None:
    """The version a release says it is, once its changelog is read."""
    with place.database.reading() as session:
        release = session.scalar(sa.select(Release).where(Release.digest == digest))
        return release.version if release is not None and release.changelog else None


def address(place: Place) -> str:
    """Where the bot answers now."""
    with place.database.reading() as session:
        return str(session.scalars(sa.select(Bot)).one().address)


def test_from_an_empty_database_through_a_good_and_a_bad_release(place: Place, docker_url: str) -> None:
    place.images.publish(FIRST, TAG)
    at = start_by_hand(place.engine, place.image, "pipeline-desk", place.labels)
    write_note(at, "the first note")
    notes = read_notes(at)

    flotilla("nodes", "add", "local", "--docker-url", docker_url, "--snapshot-dir", str(place.folder / "snapshots"))
    flotilla("orgs", "create", "acme", "--name", "Acme", "--owner", "ada@acme.test")
    flotilla("bots", "adopt", "pipeline-desk", "--org", "acme", "--node", "local")
    good = place.images.publish(SECOND, TAG)
    wait_until(lambda: version_of(place, good) == SECOND.version, "the good release and its changelog are known", 90)
    assert SECOND.version in flotilla("rollouts", "start", place.image, "--all", "--now", "--follow")
    assert read_notes(address(place)) == notes

    bad = place.images.publish(CORRUPTING, TAG)
    wait_until(lambda: version_of(place, bad) == CORRUPTING.version, "the bad release is known")
    code, output = attempt("bots", "update", "pipeline-desk", "--follow")

    assert code == 1
    assert "rolled back" in output
    assert read_notes(address(place)) == notes
    assert SECOND.version in flotilla("bots", "list")
    healthy = flotilla("doctor")
    assert "ok     engine local: answers" in healthy
    assert "takes snapshots" in healthy
    assert "ok     mail" in healthy
