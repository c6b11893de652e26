"""Archives of volumes: complete and verified, or an error; restore and delete."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from daemon.engine.labels import UPDATE_LABEL
from daemon.engine.trouble import is_engine_trouble
from daemon.snapshots import archive_scripts
from daemon.snapshots.archives import (
    Archive,
    RestoreFailed,
    SnapshotFailed,
    SnapshotHelper,
    VolumeSizes,
    choose_capabilities,
)
from daemon.snapshots.helper_containers import HelperFailed
from portal.models.base import new_id
from portal.services.bots.leases import LeaseLost
from tests.support import volumes
from tests.support.docker import RUN_LABEL

pytestmark = [pytest.mark.docker, pytest.mark.registry]


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


def archive(helper: SnapshotHelper, volume: str, folder: str) -> Archive:
    """Archive a volume in one pass."""
    [archived] = helper.take_in_one_pass([volume], folder, VolumeSizes())
    return archived


def test_restore_brings_back_every_kind_of_entry(
    engine: docker.APIClient, helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_every_kind_of_entry(root)
    before = volumes.walk(root)

    archived = archive(helper, volume, folder)
    volumes.damage(root)
    assert volumes.walk(root) != before
    helper.restore([archived])

    after = volumes.walk(root)
    assert after.keys() == before.keys()
    for name, entry in before.items():
        assert after[name] == entry, name
    assert archived.entries == len(before)
    assert containers_of(engine, helper) == []


def test_archive_of_an_earlier_version_is_restored(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_every_kind_of_entry(root)
    path = Path(folder) / "earlier.tar"
    path.parent.mkdir()
    options = ["--format=posix", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "--sparse"]
    subprocess.run(["tar", *options, f"--directory={root}", f"--file={path}", "--create", "."], check=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    before = volumes.walk(root)
    volumes.damage(root)

    with pytest.raises(RestoreFailed, match="the SHA-256 of the archive differs"):
        helper.restore([Archive(volume, str(path), f"sha256:{'0' * 64}")])
    helper.restore([Archive(volume, str(path), f"sha256:{digest}")])

    assert volumes.walk(root) == before


def test_trusted_attributes_of_privileged_bots_are_restored(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str], volume: str, root: Path, folder: str
) -> None:
    capabilities = choose_capabilities({"HostConfig": {"CapAdd": ["CAP_SYS_ADMIN"]}})
    privileged = SnapshotHelper(engine, snapshot_image, run_labels, new_id(), capabilities=capabilities)
    (root / "file").write_text("content")
    (root / "folder").mkdir()
    for name in ("file", "folder"):
        try:
            os.setxattr(root / name, "trusted.note", b"1")
        except OSError:
            pytest.skip("only root can set trusted attributes")
    before = volumes.walk(root)
    archived = archive(privileged, volume, folder)
    (root / "file").unlink()
    (root / "folder").rmdir()

    privileged.restore([archived])

    assert volumes.walk(root) == before


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({}, []),
        ({"Privileged": True}, ["SYS_ADMIN"]),
        ({"CapAdd": ["NET_ADMIN"], "Privileged": False}, []),
        ({"CapAdd": ["all"]}, ["SYS_ADMIN"]),
    ],
)
def test_helpers_get_more_rights_only_for_bots_that_have_them(host: dict[str, Any], expected: list[str]) -> None:
    assert choose_capabilities({"HostConfig": host}) == expected


def test_times_of_folders_do_not_depend_on_their_order(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    """Creating a folder changes the times of its parent, which tar sets when it comes to an unrelated folder."""
    for depth in range(3):
        for number in range(30):
            (root / f"{number}" / "/".join(f"{level}-{number % 7}" for level in range(depth))).mkdir(
                parents=True, exist_ok=True
            )
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    before = volumes.walk(root)
    archived = archive(helper, volume, folder)
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir()

    helper.restore([archived])

    assert volumes.walk(root) == before


def test_sparse_files_stay_sparse_in_the_archive_and_after_a_restore(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    volumes.fill_with_every_kind_of_entry(root)
    archived = archive(helper, volume, folder)
    assert archived.size < 10 << 20
    (root / "sparse").unlink()

    helper.restore([archived])
    restored = (root / "sparse").stat()
    assert restored.st_size == 60 << 20
    assert restored.st_blocks * 512 < 1 << 20


def test_empty_volume_is_restored_empty(helper: SnapshotHelper, volume: str, root: Path, folder: str) -> None:
    archived = archive(helper, volume, folder)
    (root / ".new").write_text("written by the new release")

    helper.restore([archived])

    assert archived.entries == 1
    assert names_in(root) == []


def test_only_the_owner_can_read_archives(helper: SnapshotHelper, volume: str, root: Path, folder: str) -> None:
    archived = archive(helper, volume, folder)

    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert Path(archived.path).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in Path(archived.path).iterdir()} == {0o600}
    assert names_in(folder) == [f"{helper.update_id}-1"]
    assert sum(path.stat().st_size for path in Path(archived.path).glob("*.tar")) == archived.size


def test_missing_volume_is_an_error_and_is_not_created(
    engine: docker.APIClient, helper: SnapshotHelper, folder: str
) -> None:
    with pytest.raises(SnapshotFailed, match="does not exist"):
        archive(helper, "no-such-volume", folder)
    with pytest.raises(docker.errors.NotFound):
        engine.inspect_volume("no-such-volume")


def test_full_disk_leaves_no_archive(helper: SnapshotHelper, volume: str, root: Path, small_disk: str) -> None:
    (root / "large").write_bytes(os.urandom(3 << 20))

    with pytest.raises(SnapshotFailed, match="free bytes on that disk: 0") as failure:
        archive(helper, volume, small_disk)

    assert is_engine_trouble(failure.value)
    assert names_in(small_disk) == []


@pytest.mark.parametrize("part", ["delta.tar", "folders.tar", "files", "settled", "sums"])
@pytest.mark.parametrize("damage", ["changed", "cut off", "missing"])
def test_damaged_archive_is_refused_before_the_volume_is_touched(  # noqa: PLR0917 - fixtures come by name
    helper: SnapshotHelper, volume: str, root: Path, folder: str, damage: str, part: str
) -> None:
    (root / "note").write_text("archived")
    archived = archive(helper, volume, folder)
    damaged = Path(archived.path) / part
    content = damaged.read_bytes() or b"x"
    if damage == "changed":
        damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut off":
        damaged.write_bytes(content[:-1] if damaged.stat().st_size else b"longer")
    else:
        damaged.unlink()
    before = volumes.walk(root)

    with pytest.raises(RestoreFailed, match="the volume was not touched"):
        helper.restore([archived])

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
            helper.restore([archived])
        assert is_engine_trouble(failure.value)
        resize(small_disk, "1m")
        helper.restore([archived])
        assert Path(small_disk, "data").stat().st_size == 900_000
    finally:
        engine.remove_volume(volume)


def test_result_is_read_when_many_error_lines_follow_it(
    helper: SnapshotHelper, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine copies both streams independently, so that errors written before the result can be logged after it.
    errors_after_result = """echo '{"free": 5}'; sleep 0.2; for n in $(seq 200); do echo "error $n" >&2; done"""
    monkeypatch.setattr(archive_scripts, "FREE_SPACE", errors_after_result)

    assert helper.free_space(folder) == 5


def test_free_space_is_that_of_the_archive_disk(helper: SnapshotHelper, folder: str, small_disk: str) -> None:
    assert 900_000 < helper.free_space(small_disk) <= 1 << 20
    assert helper.free_space(folder) > 1 << 20


def test_delete_removes_archives_and_partial_archives_only(
    helper: SnapshotHelper, volume: str, root: Path, folder: str
) -> None:
    archived = archive(helper, volume, folder)
    Path(folder, "a.tar").touch()
    Path(folder, "a.tar.partial").touch()
    Path(folder, "other.tar").touch()

    helper.delete([archived.path, f"{folder}/a.tar", f"{folder}/never-written.tar"])

    assert names_in(folder) == ["other.tar"]


def test_helper_that_an_earlier_attempt_left_is_replaced(
    engine: docker.APIClient, helper: SnapshotHelper, snapshot_image: str, volume: str, folder: str
) -> None:
    left = engine.create_container(snapshot_image, ["sleep", "1000"], name=helper.name("snapshots"))
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
    left = engine.create_container(snapshot_image, ["sleep", "1000"], name=helper.name("snapshots"))
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
    start(mine, f"flotilla-{mine}-snapshots-f7")
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
    monkeypatch.setattr("daemon.snapshots.archives.SNAPSHOT", "sleep 1000")

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
        patch.setattr("daemon.snapshots.archives.SNAPSHOT", "sleep 1000")
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


@pytest.mark.parametrize("script", ["exit 255", "exit 0"], ids=["after a crash of the engine", "without a result"])
def test_helper_that_an_engine_crash_ended_may_be_repeated(
    helper: SnapshotHelper, volume: str, folder: str, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr("daemon.snapshots.archives.SNAPSHOT", script)
    with pytest.raises(SnapshotFailed) as failure:
        archive(helper, volume, folder)
    assert is_engine_trouble(failure.value)


def test_worker_that_lost_its_lease_does_not_empty_a_volume(  # noqa: PLR0917 - fixtures come by name
    engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str], volume: str, root: Path, folder: str
) -> None:
    (root / "note").write_text("old")
    helper = SnapshotHelper(engine, snapshot_image, run_labels, new_id())
    archived = archive(helper, volume, folder)
    (root / "note").write_text("new")

    def lose_lease() -> None:
        raise LeaseLost("another worker holds the lease")

    late = SnapshotHelper(engine, snapshot_image, run_labels, new_id(), renew_or_raise=lose_lease)
    with pytest.raises(LeaseLost):
        late.restore([archived])

    assert (root / "note").read_text() == "new"
    assert containers_of(engine, late) == []
