"""Archives of volumes: complete and verified, or an error; restore, measure and delete."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from daemon.engine.labels import UPDATE_LABEL, helper_name
from daemon.engine.trouble import is_engine_trouble
from daemon.snapshots import archive_scripts
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


def resize(disk: str, size: str) -> None:
    """Change the size of a small disk."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def names_in(folder: Path | str) -> list[str]:
    """Return the names in a folder."""
    return [path.name for path in Path(folder).iterdir()]


def containers_of(engine: docker.APIClient, helper: SnapshotHelper) -> list[str]:
    """Return the containers of the helper's update on the engine."""
    label = f"{UPDATE_LABEL}={helper.update_id}"
    return [str(found["Id"]) for found in engine.containers(all=True, filters={"label": label})]


def archive(helper: SnapshotHelper, volume: str, folder: str) -> ArchiveInfo:
    """Archive a volume under its own name."""
    return helper.archive(1, volume, folder, f"{volume}.tar")


def test_restore_brings_back_every_kind_of_entry(
    engine: docker.APIClient, helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_every_kind_of_entry(root)
    before = volumes.walk(root)

    archived = archive(helper, volume, folder)
    volumes.damage(root)
    assert volumes.walk(root) != before
    helper.restore(1, volume, archived.path, archived.sha256)

    after = volumes.walk(root)
    assert after.keys() == before.keys()
    for name, entry in before.items():
        assert after[name] == entry, name
    assert archived.entries == len(before)
    assert containers_of(engine, helper) == []


def test_sparse_files_stay_sparse_in_the_archive_and_after_a_restore(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_every_kind_of_entry(root)
    archived = archive(helper, volume, folder)
    assert archived.size < 10 << 20

    helper.restore(1, volume, archived.path, archived.sha256)
    restored = (root / "sparse").stat()
    assert restored.st_size == 60 << 20
    assert restored.st_blocks * 512 < 1 << 20


def test_empty_volume_is_restored_empty(helper: SnapshotHelper, volume: str, root: Path, folder: str) -> None:
    archived = archive(helper, volume, folder)
    (root / ".new").write_text("written by the new release")

    helper.restore(1, volume, archived.path, archived.sha256)

    assert archived.entries == 1
    assert names_in(root) == []


def test_only_the_owner_can_read_archives(helper: SnapshotHelper, volume: str, root: Path, folder: str) -> None:
    archived = archive(helper, volume, folder)

    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert Path(archived.path).stat().st_mode & 0o777 == 0o600
    assert names_in(folder) == [f"{volume}.tar"]
    assert Path(archived.path).stat().st_size == archived.size


def test_missing_volume_is_an_error_and_is_not_created(
    engine: docker.APIClient, helper: SnapshotHelper, folder: str
) -> None:
    with pytest.raises(SnapshotFailed, match="does not exist"):
        archive(helper, "no-such-volume", folder)
    with pytest.raises(docker.errors.NotFound):
        engine.inspect_volume("no-such-volume")


def test_full_disk_leaves_no_archive_and_keeps_an_earlier_one(
    helper: SnapshotHelper, volume: str, root: Path, small_disk: str
) -> None:
    earlier = archive(helper, volume, small_disk)
    (root / "large").write_bytes(os.urandom(3 << 20))

    with pytest.raises(SnapshotFailed, match="free bytes on that disk: 0") as failure:
        archive(helper, volume, small_disk)

    assert is_engine_trouble(failure.value)
    assert names_in(small_disk) == [Path(earlier.path).name]
    assert Path(earlier.path).stat().st_size == earlier.size


@pytest.mark.parametrize("damage", ["changed", "cut off", "missing"])
def test_damaged_archive_is_refused_before_the_volume_is_touched(
    helper: SnapshotHelper, volume: str, root: Path, folder: str, damage: str
) -> None:
    volumes.fill_with_every_kind_of_entry(root)
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


def test_restore_that_fills_the_disk_is_reported_and_can_be_repeated(
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
        with pytest.raises(RestoreFailed, match="free bytes on the disk of the volume: 0") as failure:
            helper.restore(1, volume, archived.path, archived.sha256)
        assert is_engine_trouble(failure.value)
        resize(small_disk, "1m")
        helper.restore(1, volume, archived.path, archived.sha256)
        assert Path(small_disk, "data").stat().st_size == 900_000
    finally:
        engine.remove_volume(volume)


def test_size_of_all_volumes_is_measured_together(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_every_kind_of_entry(root)
    archived = archive(helper, volume, folder)

    assert archived.size <= helper.measure([volume]) < 10 << 20
    assert helper.measure([]) == 0
    with pytest.raises(HelperFailed, match="does not exist"):
        helper.measure([volume, "no-such-volume"])


def test_vanishing_files_do_not_make_the_measurement_fail(
    engine: docker.APIClient, helper: SnapshotHelper, run_labels: dict[str, str]
) -> None:
    volume = f"volume-{new_id()}"
    # In this folder `du` always meets files that vanish or cannot be read, and sometimes a folder that vanishes.
    options = {"type": "none", "o": "bind", "device": "/proc"}
    engine.create_volume(volume, driver="local", driver_opts=options, labels=run_labels)
    try:
        assert helper.measure([volume]) > 0
    finally:
        engine.remove_volume(volume)


DU_WITHOUT_SUM = """
du() {
  case "$*" in
    *--version*) command du "$@" ;;
    *) if [ "$attempt" -le %s ]; then echo "du: fts_read failed" >&2; return 1; fi; command du "$@" ;;
  esac
}
"""
"""A `du` that prints no sum at its first attempts, as when the folder it reads vanishes."""


def test_measurement_is_repeated_when_du_prints_no_sum(
    helper: SnapshotHelper, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = archive_scripts.MEASURE

    monkeypatch.setattr(archive_scripts, "MEASURE", DU_WITHOUT_SUM % 2 + script)
    assert helper.measure([volume]) > 0

    monkeypatch.setattr(archive_scripts, "MEASURE", DU_WITHOUT_SUM % 100 + script)
    with pytest.raises(HelperFailed, match="change too fast to be measured"):
        helper.measure([volume])


def test_result_is_read_when_many_error_lines_follow_it(
    helper: SnapshotHelper, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine copies both streams independently, so that errors written before the result can be logged after it.
    errors_after_result = """echo '{"size": 5}'; sleep 0.2; for n in $(seq 200); do echo "error $n" >&2; done"""
    monkeypatch.setattr(archive_scripts, "MEASURE", errors_after_result)

    assert helper.measure([volume]) == 5


def test_measurement_has_a_long_time_limit(
    helper: SnapshotHelper, volume: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def run_helper(*arguments: Any) -> dict[str, int]:
        limits.extend(each.seconds for each in arguments if isinstance(each, HelperTask))
        return {"size": 0, "free": 0}

    monkeypatch.setattr("daemon.snapshots.helper_containers.run_helper", run_helper)
    helper.free_space(folder)
    helper.measure([volume])
    assert limits[1] > 10 * limits[0]


def test_free_space_is_that_of_the_archive_disk(helper: SnapshotHelper, folder: str, small_disk: str) -> None:
    assert 900_000 < helper.free_space(small_disk) <= 1 << 20
    assert helper.free_space(folder) > 1 << 20


def test_delete_removes_archives_and_partial_archives_only(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    archived = archive(helper, volume, folder)
    Path(f"{archived.path}.partial").touch()
    Path(folder, "other.tar").touch()

    helper.delete([archived.path, f"{folder}/never-written.tar"])

    assert names_in(folder) == ["other.tar"]


def test_helper_that_an_earlier_attempt_left_is_replaced(
    engine: docker.APIClient, helper: SnapshotHelper, snapshot_image: str, volume: str, folder: str
) -> None:
    left = engine.create_container(snapshot_image, ["sleep", "1000"], name=helper_name(helper.update_id, "snap-1", 0))
    engine.start(left["Id"])

    archive(helper, volume, folder)

    assert engine.containers(all=True, filters={"id": left["Id"]}) == []


def test_removal_of_a_helper_in_progress_is_awaited(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient,
    helper: SnapshotHelper,
    snapshot_image: str,
    volume: str,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = engine.create_container(snapshot_image, ["sleep", "1000"], name=helper_name(helper.update_id, "snap-1", 0))
    engine.start(left["Id"])
    inspect, remove = engine.inspect_container, engine.remove_container
    inspections = iter(range(3))

    def remove_later(container: str, **options: bool) -> None:
        # The engine refuses a second removal while one that a dead worker requested is in progress.
        monkeypatch.setattr(engine, "remove_container", remove)
        response = requests.Response()
        response.status_code = 409
        raise docker.errors.APIError("removal of the container is already in progress", response=response)

    def inspect_and_finish_removal(container: str) -> Any:
        if next(inspections, None) is None and inspect(container)["Id"] == left["Id"]:
            remove(left["Id"], force=True)
        return inspect(container)

    monkeypatch.setattr(engine, "remove_container", remove_later)
    monkeypatch.setattr(engine, "inspect_container", inspect_and_finish_removal)

    archive(helper, volume, folder)

    assert engine.containers(all=True, filters={"id": left["Id"]}) == []


def test_remove_all_helpers_removes_only_the_helpers_of_this_update(
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

    helper.remove_all_helpers()

    assert sorted(containers_of(engine, helper)) == sorted(kept[:2])
    assert engine.inspect_container(kept[2])["State"]["Running"]
    for container in kept:
        engine.remove_container(container, force=True)


def test_helper_image_without_the_required_programs_is_refused(
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


def test_missing_helper_image_is_pulled(
    engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str]
) -> None:
    image = engine.inspect_image(snapshot_image)["Id"]  # type: ignore[no-untyped-call]
    engine.remove_image(snapshot_image, force=True)

    assert SnapshotHelper(engine, snapshot_image, run_labels, new_id()).require_image() == image


def test_helper_that_exceeds_its_time_limit_is_removed(
    engine: docker.APIClient, helper: SnapshotHelper, volume: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.snapshots.archives._MIN_SECONDS", 1)
    monkeypatch.setattr("daemon.snapshots.archive_scripts.ARCHIVE", "sleep 1000")

    with pytest.raises(SnapshotFailed, match="did not finish within 1 s"):
        archive(helper, volume, folder)

    assert containers_of(engine, helper) == []


@pytest.mark.parametrize(
    "lose",
    [docker.APIClient.kill, lambda engine, container: engine.remove_container(container, force=True)],
    ids=["killed", "removed"],
)
def test_helper_that_is_lost_while_it_runs_may_be_repeated(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient,
    helper: SnapshotHelper,
    volume: str,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[docker.APIClient, str], None],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("daemon.snapshots.archive_scripts.ARCHIVE", "sleep 1000")
        with ThreadPoolExecutor() as pool:
            archiving = pool.submit(archive, helper, volume, folder)
            label = {"label": f"{UPDATE_LABEL}={helper.update_id}"}
            while not (running := engine.containers(filters=label)):
                assert not archiving.done()
                time.sleep(0.05)
            lose(engine, running[0]["Id"])
    assert isinstance(archiving.exception(), SnapshotFailed)
    assert is_engine_trouble(archiving.exception())
    assert archive(helper, volume, folder).entries > 0


def test_worker_that_lost_its_lease_does_not_empty_a_volume(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str], volume: str, root: Path, folder: str
) -> None:
    (root / "note").write_text("old")
    helper = SnapshotHelper(engine, snapshot_image, run_labels, new_id())
    archived = helper.archive(1, volume, folder, "a.tar")
    (root / "note").write_text("new")

    def lose_lease() -> None:
        raise LeaseLost("another worker holds the lease")

    late = SnapshotHelper(engine, snapshot_image, run_labels, new_id(), lose_lease)
    with pytest.raises(LeaseLost):
        late.restore(1, volume, archived.path, archived.sha256)

    assert (root / "note").read_text() == "new"
    assert containers_of(engine, late) == []
