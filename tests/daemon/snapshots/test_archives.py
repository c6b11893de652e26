"""A snapshot is byte for byte, in all that a file system can hold, or there is none."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from daemon.engine.labels import UPDATE_LABEL
from daemon.snapshots.archives import ArchiveInfo, RestoreFailed, SnapshotFailed, SnapshotHelper
from daemon.snapshots.helper_containers import HelperFailed, HelperTask
from portal.models.base import new_id
from portal.services.bots.leases import LeaseLost
from tests.support import volumes
from tests.support.docker import RUN_LABEL

pytestmark = [pytest.mark.docker, pytest.mark.registry]


@pytest.fixture
def volume(engine: docker.APIClient, run_labels: dict[str, str]) -> Iterator[str]:
    """An empty volume."""
    name = f"volume-{new_id()}"
    engine.create_volume(name, labels=run_labels)
    yield name
    engine.remove_volume(name)


@pytest.fixture
def root(engine: docker.APIClient, volume: str) -> Path:
    """The volume's folder on this machine."""
    root = volumes.root_of(engine, volume)
    if not os.access(root, os.W_OK):
        pytest.skip("the engine's volumes are not on this machine, or belong to somebody else")
    return root


@pytest.fixture
def helper(engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str]) -> SnapshotHelper:
    """The helper of a fresh update."""
    return SnapshotHelper(engine, snapshot_image, run_labels, new_id())


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Folder of the archives, not made yet."""
    return str(tmp_path / "archives")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """A folder on a disk of one megabyte."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(mount)], check=False)
    if done.returncode != 0:
        pytest.skip("mounting a small disk takes root")
    yield str(mount)
    subprocess.run(["umount", str(mount)], check=True)


def resize(disk: str, size: str) -> None:
    """Change the size of a small disk."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def names_in(folder: Path | str) -> list[str]:
    """The names in a folder."""
    return [path.name for path in Path(folder).iterdir()]


def containers_of(engine: docker.APIClient, helper: SnapshotHelper) -> list[str]:
    """What there is on the engine of the helper's update."""
    label = f"{UPDATE_LABEL}={helper.update_id}"
    return [str(found["Id"]) for found in engine.containers(all=True, filters={"label": label})]


def archive(helper: SnapshotHelper, volume: str, folder: str) -> ArchiveInfo:
    """Archive a volume under a name of its own."""
    return helper.archive(1, volume, folder, f"{volume}.tar")


def test_everything_comes_back(
    engine: docker.APIClient, helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_oddities(root)
    before = volumes.walk(root)

    archived = archive(helper, volume, folder)
    volumes.wreck(root)
    assert volumes.walk(root) != before
    helper.restore(1, volume, archived.path, archived.sha256)

    after = volumes.walk(root)
    assert after.keys() == before.keys()
    for name, entry in before.items():
        assert after[name] == entry, name
    assert archived.entries == len(before)
    assert containers_of(engine, helper) == []


def test_sparse_files_stay_sparse_in_the_archive_and_after(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_oddities(root)
    archived = archive(helper, volume, folder)
    assert archived.size < 10 << 20

    helper.restore(1, volume, archived.path, archived.sha256)
    restored = (root / "sparse").stat()
    assert restored.st_size == 60 << 20
    assert restored.st_blocks * 512 < 1 << 20


def test_an_empty_volume_comes_back_empty(helper: SnapshotHelper, volume: str, root: Path, folder: str) -> None:
    archived = archive(helper, volume, folder)
    (root / ".left").write_text("by the new release")

    helper.restore(1, volume, archived.path, archived.sha256)

    assert archived.entries == 1
    assert names_in(root) == []


def test_only_the_owner_may_read_archives(helper: SnapshotHelper, volume: str, root: Path, folder: str) -> None:
    archived = archive(helper, volume, folder)

    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert Path(archived.path).stat().st_mode & 0o777 == 0o600
    assert names_in(folder) == [f"{volume}.tar"]
    assert Path(archived.path).stat().st_size == archived.size


def test_a_missing_volume_is_an_error_and_stays_missing(
    engine: docker.APIClient, helper: SnapshotHelper, folder: str
) -> None:
    with pytest.raises(SnapshotFailed, match="does not exist"):
        archive(helper, "no-such-volume", folder)
    with pytest.raises(docker.errors.NotFound):
        engine.inspect_volume("no-such-volume")


def test_a_full_disk_leaves_no_archive_and_an_earlier_one_alone(
    helper: SnapshotHelper, volume: str, root: Path, small_disk: str
) -> None:
    earlier = archive(helper, volume, small_disk)
    (root / "large").write_bytes(os.urandom(3 << 20))

    with pytest.raises(SnapshotFailed, match="bytes left on that disk: 0"):
        archive(helper, volume, small_disk)

    assert names_in(small_disk) == [Path(earlier.path).name]
    assert Path(earlier.path).stat().st_size == earlier.size


@pytest.mark.parametrize("damage", ["changed", "cut off", "missing"])
def test_a_damaged_archive_is_refused_before_the_volume_is_touched(
    helper: SnapshotHelper, volume: str, root: Path, folder: str, damage: str
) -> None:
    volumes.fill_with_oddities(root)
    archived = archive(helper, volume, folder)
    content = Path(archived.path).read_bytes()
    if damage == "changed":
        Path(archived.path).write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    elif damage == "cut off":
        Path(archived.path).write_bytes(content[:-512])
    else:
        Path(archived.path).unlink()
    before = volumes.walk(root)

    with pytest.raises(RestoreFailed, match="the volume was not touched"):
        helper.restore(1, volume, archived.path, archived.sha256)

    assert volumes.walk(root) == before


def test_a_disk_that_fills_up_while_restoring_is_told_and_can_be_repeated(
    engine: docker.APIClient, helper: SnapshotHelper, folder: str, small_disk: str, run_labels: dict[str, str]
) -> None:
    volume = f"volume-{new_id()}"
    options = {"type": "none", "o": "bind", "device": small_disk}
    engine.create_volume(volume, driver="local", driver_opts=options, labels=run_labels)
    Path(small_disk, "data").write_bytes(os.urandom(900_000))
    try:
        archived = archive(helper, volume, folder)
        Path(small_disk, "data").unlink()
        resize(small_disk, "512k")
        with pytest.raises(RestoreFailed, match="bytes left on the disk of the volume: 0"):
            helper.restore(1, volume, archived.path, archived.sha256)
        resize(small_disk, "1m")
        helper.restore(1, volume, archived.path, archived.sha256)
        assert Path(small_disk, "data").stat().st_size == 900_000
    finally:
        engine.remove_volume(volume)


def test_sizes_are_measured_for_all_volumes_together(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_oddities(root)
    archived = archive(helper, volume, folder)

    assert archived.size <= helper.measure([volume]) < 10 << 20
    assert helper.measure([]) == 0
    with pytest.raises(HelperFailed, match="does not exist"):
        helper.measure([volume, "no-such-volume"])


def test_files_that_vanish_while_a_bot_at_work_is_measured_do_no_harm(
    engine: docker.APIClient, helper: SnapshotHelper, run_labels: dict[str, str]
) -> None:
    volume = f"volume-{new_id()}"
    # No `du` gets through this folder without something vanishing, or refusing itself, under it.
    options = {"type": "none", "o": "bind", "device": "/proc"}
    engine.create_volume(volume, driver="local", driver_opts=options, labels=run_labels)
    try:
        assert helper.measure([volume]) > 0
    finally:
        engine.remove_volume(volume)


def test_measuring_may_take_long_for_the_bot_is_up_and_its_size_unknown(
    helper: SnapshotHelper, volume: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def run(*arguments: Any) -> dict[str, int]:
        given.extend(each.seconds for each in arguments if isinstance(each, HelperTask))
        return {"size": 0, "free": 0}

    monkeypatch.setattr("daemon.snapshots.helper_containers.run", run)
    helper.free_space(folder)
    helper.measure([volume])
    assert given[1] > 10 * given[0]


def test_free_space_is_that_of_the_disk_of_the_archives(helper: SnapshotHelper, folder: str, small_disk: str) -> None:
    assert 900_000 < helper.free_space(small_disk) <= 1 << 20
    assert helper.free_space(folder) > 1 << 20


def test_deleting_takes_archives_and_broken_attempts_but_nothing_else(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    archived = archive(helper, volume, folder)
    Path(f"{archived.path}.partial").touch()
    Path(folder, "other.tar").touch()

    helper.delete([archived.path, f"{folder}/never-written.tar"])

    assert names_in(folder) == ["other.tar"]


def test_a_helper_left_by_a_dead_worker_is_replaced(
    engine: docker.APIClient, helper: SnapshotHelper, snapshot_image: str, volume: str, folder: str
) -> None:
    left = engine.create_container(snapshot_image, ["sleep", "1000"], name=f"flotilla-{helper.update_id}-snap-1")
    engine.start(left["Id"])

    archive(helper, volume, folder)

    assert engine.containers(all=True, filters={"id": left["Id"]}) == []


def test_a_helper_that_is_being_removed_is_waited_for(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient,
    helper: SnapshotHelper,
    snapshot_image: str,
    volume: str,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = engine.create_container(snapshot_image, ["sleep", "1000"], name=f"flotilla-{helper.update_id}-snap-1")
    engine.start(left["Id"])
    inspect, remove = engine.inspect_container, engine.remove_container
    looks = iter(range(3))

    def remove_later(container: str, **how: bool) -> None:
        # So it is after a dead worker asked for the removal: another is refused, and it takes a while.
        monkeypatch.setattr(engine, "remove_container", remove)
        response = requests.Response()
        response.status_code = 409
        raise docker.errors.APIError("removal of the container is already in progress", response=response)

    def look_or_be_late(container: str) -> Any:
        if next(looks, None) is None and inspect(container)["Id"] == left["Id"]:
            remove(left["Id"], force=True)
        return inspect(container)

    monkeypatch.setattr(engine, "remove_container", remove_later)
    monkeypatch.setattr(engine, "inspect_container", look_or_be_late)

    archive(helper, volume, folder)

    assert engine.containers(all=True, filters={"id": left["Id"]}) == []


def test_end_all_ends_the_helpers_of_this_update_and_spares_the_bot(
    engine: docker.APIClient, helper: SnapshotHelper, snapshot_image: str, run_labels: dict[str, str]
) -> None:
    def start(update_id: str, name: str) -> str:
        labels = {UPDATE_LABEL: update_id, **run_labels}
        container = engine.create_container(snapshot_image, ["sleep", "1000"], name=name, labels=labels)
        engine.start(container["Id"])
        return str(container["Id"])

    mine, other = helper.update_id, new_id()
    start(mine, f"flotilla-{mine}-snap-1")
    start(mine, f"flotilla-{mine}-restore-2")
    kept = [start(mine, f"bot-{mine}"), start(mine, f"flotilla-{mine}-new"), start(other, f"flotilla-{other}-snap-1")]

    helper.end_all()

    assert sorted(containers_of(engine, helper)) == sorted(kept[:2])
    assert engine.inspect_container(kept[2])["State"]["Running"]
    for container in kept:
        engine.remove_container(container, force=True)


def test_an_image_without_the_programs_is_refused_before_any_work(
    engine: docker.APIClient, registry: str, run_labels: dict[str, str], snapshot_image: str
) -> None:
    reference = f"flotilla/lacking:{new_id()}"
    changes = [f"LABEL {RUN_LABEL}={run_labels[RUN_LABEL]}"]
    container = engine.create_container(snapshot_image, ["rm", "/bin/tar"], labels=run_labels)["Id"]
    engine.start(container)
    engine.wait(container)
    repository, tag = reference.split(":")
    engine.commit(container, repository, tag, changes=changes)
    engine.remove_container(container)

    with pytest.raises(HelperFailed, match="lacks tar of GNU tar; SNAPSHOT_IMAGE needs"):
        SnapshotHelper(engine, reference, run_labels, new_id()).require_image()


def test_an_absent_image_is_pulled(engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str]) -> None:
    image = engine.inspect_image(snapshot_image)["Id"]  # type: ignore[no-untyped-call]
    engine.remove_image(snapshot_image, force=True)

    assert SnapshotHelper(engine, snapshot_image, run_labels, new_id()).require_image() == image


def test_a_helper_that_hangs_is_ended(
    engine: docker.APIClient, helper: SnapshotHelper, volume: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.snapshots.archives._LEAST_SECONDS", 1)
    monkeypatch.setattr("daemon.snapshots.scripts.ARCHIVE", "sleep 1000")

    with pytest.raises(SnapshotFailed, match="not done within 1 seconds"):
        archive(helper, volume, folder)

    assert containers_of(engine, helper) == []


def test_a_worker_that_lost_the_bot_empties_no_volume(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str], volume: str, root: Path, folder: str
) -> None:
    (root / "note").write_text("of then")
    helper = SnapshotHelper(engine, snapshot_image, run_labels, new_id())
    archived = helper.archive(1, volume, folder, "a.tar")
    (root / "note").write_text("of now")

    def lost() -> None:
        raise LeaseLost("somebody else holds the bot by now")

    late = SnapshotHelper(engine, snapshot_image, run_labels, new_id(), lost)
    with pytest.raises(LeaseLost):
        late.restore(1, volume, archived.path, archived.sha256)

    assert (root / "note").read_text() == "of now"
    assert containers_of(engine, late) == []
