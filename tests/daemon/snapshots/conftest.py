"""Fixtures with a volume and the helpers of an update."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from daemon.snapshots.archives import SnapshotHelper
from portal.models.base import new_id
from tests.support import volumes


@pytest.fixture
def volume(engine: docker.APIClient, helper: SnapshotHelper, run_labels: dict[str, str]) -> Iterator[str]:
    """An empty volume."""
    name = f"volume-{new_id()}"
    engine.create_volume(name, labels=run_labels)
    yield name
    helper.remove_all_helpers()
    engine.remove_volume(name)


@pytest.fixture
def root(engine: docker.APIClient, volume: str) -> Path:
    """Folder of the volume on this machine."""
    root = volumes.root_of(engine, volume)
    if not os.access(root, os.W_OK):
        pytest.skip("the volumes of the engine are not on this machine, or belong to another user")
    return root


@pytest.fixture
def helper(engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str]) -> SnapshotHelper:
    """Helper containers of a new update."""
    return SnapshotHelper(engine, snapshot_image, run_labels, new_id())


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Folder of the archives, which does not exist yet."""
    return str(tmp_path / "archives")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """A folder on a disk of one megabyte."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(mount)], check=False)
    if done.returncode != 0:
        pytest.skip("mounting a small disk requires root")
    yield str(mount)
    subprocess.run(["umount", str(mount)], check=True)
