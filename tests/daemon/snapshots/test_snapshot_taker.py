"""Snapshots in two passes: the base holds exactly what did not change, and every doubt leads to a full archive."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import docker
import pytest

from daemon.snapshots import archives, snapshot_script, snapshot_taker
from daemon.snapshots.archives import Archive, RestoreFailed, SnapshotHelper
from daemon.snapshots.helper_containers import HelperFailed
from daemon.snapshots.snapshot_taker import SnapshotTaker
from portal.models.base import new_id
from tests.support import volumes

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _short_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the base contain what has not changed for one second. File systems of tests have precise times."""
    patch_script(monkeypatch, "margin=5", "margin=1")


@pytest.fixture
def taker(helper: SnapshotHelper, volume: str, folder: str) -> SnapshotTaker:
    """Takes the snapshot of the volume."""
    helper.pull_image()
    return SnapshotTaker(helper, [volume], folder)


@pytest.fixture
def old_files(root: Path) -> Path:
    """The folder of the volume with files that are older than the margin."""
    for folder in ("a", "b"):
        (root / folder).mkdir()
        (root / folder / "file").write_bytes(folder.encode() * 100_000)
    (root / "large").write_bytes(os.urandom(2 << 20))
    time.sleep(2.1)
    return root


def patch_script(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Change the script of the helper."""
    for module in (snapshot_taker, archives):
        assert old in module.SNAPSHOT
        monkeypatch.setattr(module, "SNAPSHOT", module.SNAPSHOT.replace(old, new))


def take(taker: SnapshotTaker) -> Archive:
    """Take the snapshot without a pause between the passes."""
    taker.inspect()
    taker.take_bases()
    [archive] = taker.take_snapshots()
    return archive


def names_in(archive: Archive, records: str) -> set[str]:
    """Return the names of the entries in a list of an archive."""
    content = (Path(archive.path) / records).read_bytes()
    return {os.fsdecode(record.split(b" ", 9)[9]) for record in content.split(b"\0") if record}


def is_in_two_passes(archive: Archive) -> bool:
    """Return whether an archive has a base."""
    return (Path(archive.path) / "base.tar").exists()


def test_second_pass_archives_only_what_changed(taker: SnapshotTaker, old_files: Path) -> None:
    taker.inspect()
    taker.take_bases()
    (old_files / "a/file").write_text("changed after the first pass")
    (old_files / "new").write_text("added after the first pass")
    (old_files / "b/file").unlink()
    [archive] = taker.take_snapshots()

    assert names_in(archive, "base") == {"./large"}
    assert names_in(archive, "files") == {"./large", "./a/file", "./new"}
    assert (Path(archive.path) / "delta.tar").stat().st_size < 1 << 20
    assert archive.entries == 6


def test_restore_leaves_untouched_entries_alone(
    taker: SnapshotTaker, helper: SnapshotHelper, old_files: Path
) -> None:
    archive = take(taker)
    before, untouched = volumes.walk(old_files), (old_files / "large").stat()
    (old_files / "a/file").write_text("overwritten by the new release")
    (old_files / "added").mkdir()
    (old_files / "b/file").unlink()

    helper.restore([archive])

    assert volumes.walk(old_files) == before
    assert (old_files / "large").stat().st_ino == untouched.st_ino
    assert (old_files / "large").stat().st_ctime_ns == untouched.st_ctime_ns


def test_restore_finds_changes_that_keep_size_and_time_of_modification(
    taker: SnapshotTaker, helper: SnapshotHelper, old_files: Path
) -> None:
    archive = take(taker)
    before, file = volumes.walk(old_files), old_files / "large"
    times = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"other content")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert volumes.walk(old_files) != before

    helper.restore([archive])

    assert volumes.walk(old_files) == before


def test_attribute_that_was_added_to_a_folder_is_removed(
    taker: SnapshotTaker, helper: SnapshotHelper, old_files: Path
) -> None:
    """No program of the helper image removes attributes, so the folder has to be created again."""
    archive = take(taker)
    before = volumes.walk(old_files)
    os.setxattr(old_files / "a", "user.added", b"1")

    helper.restore([archive])

    assert volumes.walk(old_files) == before


def test_restore_reports_what_it_cannot_undo(taker: SnapshotTaker, helper: SnapshotHelper, old_files: Path) -> None:
    archive = take(taker)
    os.setxattr(old_files, "user.added", b"1")

    with pytest.raises(RestoreFailed, match="the attributes of a folder of the restored volume differ"):
        helper.restore([archive])


def test_damaged_base_is_refused_before_the_volume_is_touched(
    taker: SnapshotTaker, helper: SnapshotHelper, old_files: Path
) -> None:
    archive = take(taker)
    base = Path(archive.path) / "base.tar"
    base.write_bytes(base.read_bytes()[:-1] + b"x")
    (old_files / "large").write_text("overwritten by the new release")
    before = volumes.walk(old_files)

    with pytest.raises(RestoreFailed, match=r"base\.tar differs from the recorded one; the volume was not touched"):
        helper.restore([archive])

    assert volumes.walk(old_files) == before


def test_full_comparison_finds_a_change_that_no_time_shows(
    taker: SnapshotTaker, helper: SnapshotHelper, old_files: Path
) -> None:
    archive = take(taker)
    (Path(archive.path) / "base.tar").write_bytes(b"")  # stands for a damaged disk

    helper.restore([archive])
    with pytest.raises(RestoreFailed, match="differs from its archive"):
        helper.restore([archive], compare_all=True)


def test_entries_of_folders_that_move_during_the_first_pass_are_archived_again(
    taker: SnapshotTaker, old_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While tar reads, `a` leads to the folder `b`. The records of both files show nothing of that."""
    mount = SnapshotHelper.volume_mounts

    def mount_writable_too(
        helper: SnapshotHelper, names: Sequence[str], folder: str, *, read_only: bool
    ) -> list[Any]:
        writable = mount(helper, names, "/writable", read_only=False)
        return [*mount(helper, names, folder, read_only=read_only), *writable]

    monkeypatch.setattr(SnapshotHelper, "volume_mounts", mount_writable_too)
    swap = "mv a aside; mv b a; mv aside b"
    patch_script(
        monkeypatch,
        'write_archive "$work/names" "$work/base.tar" literal',
        f'(cd /writable/1; {swap}); write_archive "$work/names" "$work/base.tar" literal',
    )
    patch_script(monkeypatch, "  list_old_entries after", f"  (cd /writable/1; {swap}); list_old_entries after")

    archive = take(taker)

    assert (old_files / "a/file").read_bytes() == b"a" * 100_000
    # XFS does not record which entries of a folder were exchanged, so there no entry of that folder is used.
    is_xfs = subprocess.check_output(["stat", "--file-system", "--format=%T", old_files]) == b"xfs\n"
    assert names_in(archive, "base") == (set() if is_xfs else {"./large"})


def test_hard_links_are_never_split_between_both_archives(
    taker: SnapshotTaker, helper: SnapshotHelper, root: Path
) -> None:
    (root / "one").write_text("content")
    (root / "line\nend").hardlink_to(root / "one")
    (root / "single").write_text("content")
    time.sleep(2.1)

    archive = take(taker)
    assert names_in(archive, "base") == {"./single"}
    before = volumes.walk(root)
    (root / "one").unlink()
    helper.restore([archive])

    assert volumes.walk(root) == before


def test_file_systems_without_exact_times_are_archived_in_one_pass(
    engine: docker.APIClient, helper: SnapshotHelper, small_disk: str, folder: str, run_labels: dict[str, str]
) -> None:
    name = f"volume-{new_id()}"
    options = {"type": "none", "o": "bind", "device": small_disk}
    engine.create_volume(name, driver="local", driver_opts=options, labels=run_labels)
    Path(small_disk, "file").write_text("content")
    helper.pull_image()
    try:
        time.sleep(2.1)
        archive = take(SnapshotTaker(helper, [name], folder))
        assert not is_in_two_passes(archive)
        assert names_in(archive, "settled") == set()
        Path(small_disk, "file").write_text("other")
        helper.restore([archive])
        assert Path(small_disk, "file").read_text() == "content"
    finally:
        helper.remove_all_helpers()
        engine.remove_volume(name)


@pytest.mark.usefixtures("old_files")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('-ge "$(cat clock)"', '-ge "$(($(cat clock) + 100))"'),
        (
            "  refuse_other_errors errors",
            "  echo 'tar: ./a: Read error at byte 0' > errors; refuse_other_errors errors",
        ),
        ("  refuse_missing_entries\n", "  : > base.tar.names; refuse_missing_entries\n"),
        ("  sync base.tar", "  exit 1"),
    ],
    ids=["clock set back", "read error", "missing entry", "failure"],
)
def test_doubt_about_the_base_leads_to_a_full_archive(
    taker: SnapshotTaker, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    patch_script(monkeypatch, old, new)

    assert not is_in_two_passes(take(taker))


@pytest.mark.usefixtures("old_files")
def test_base_is_used_although_the_node_is_busy(taker: SnapshotTaker, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_once = 'date() { [ -e /tmp/slow ] || { : > /tmp/slow; sleep 3.2; }; command date "$@"; }'
    patch_script(monkeypatch, '  clock_offset > "$work/clock"', f'  {slow_once}; clock_offset > "$work/clock"')

    assert is_in_two_passes(take(taker))


@pytest.mark.usefixtures("old_files")
def test_bases_of_one_disk_are_written_one_at_a_time(taker: SnapshotTaker, folder: str) -> None:
    taker.inspect()
    other_base = os.open(folder, os.O_RDONLY)
    fcntl.flock(other_base, fcntl.LOCK_EX)
    writing = threading.Thread(target=taker.take_bases)
    writing.start()
    writing.join(1)
    assert writing.is_alive()
    assert list(Path(folder).iterdir()) == []
    os.close(other_base)
    writing.join()
    assert is_in_two_passes(taker.take_snapshots()[0])


@pytest.mark.usefixtures("old_files")
def test_second_pass_that_fails_with_the_base_is_repeated_without_it(
    taker: SnapshotTaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_script(monkeypatch, "  use_base\n", "  use_base; [ ! -s base ]\n")

    archive = take(taker)

    assert not is_in_two_passes(archive)
    assert names_in(archive, "files") == {"./a/file", "./b/file", "./large"}


@pytest.mark.usefixtures("old_files")
def test_repeated_signals_do_no_harm(
    engine: docker.APIClient, taker: SnapshotTaker, helper: SnapshotHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker repeats a call to the engine that had no answer."""
    kill = engine.kill

    def kill_repeatedly(container: str, signal: str) -> None:
        for _ in range(5):
            kill(container, signal)
            time.sleep(0.2)

    patch_script(monkeypatch, "  sync base.tar", "  sleep 1.5; sync base.tar")
    patch_script(monkeypatch, "  use_base\n", "  sleep 1.5; use_base\n")
    monkeypatch.setattr(helper.engine, "kill", kill_repeatedly)

    archive = take(taker)

    assert names_in(archive, "base") == {"./a/file", "./b/file", "./large"}
    assert "the volume" not in engine.logs(helper.name("snapshots"), stdout=False).decode()


@pytest.mark.usefixtures("old_files")
@pytest.mark.parametrize("after_base", [False, True])
def test_helper_that_was_killed_is_replaced(
    engine: docker.APIClient, taker: SnapshotTaker, helper: SnapshotHelper, *, after_base: bool
) -> None:
    taker.inspect()
    if after_base:
        taker.take_bases()
    engine.kill(helper.name("snapshots"), "SIGKILL")
    if not after_base:
        taker.take_bases()

    [archive] = taker.take_snapshots()

    assert not is_in_two_passes(archive)
    assert archive.entries == 6


@pytest.mark.usefixtures("root")
def test_helper_whose_worker_died_ends_and_deletes_what_it_wrote(
    engine: docker.APIClient,
    taker: SnapshotTaker,
    helper: SnapshotHelper,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patch_script(monkeypatch, "await_signal snapshots 3600", "await_signal snapshots 1")
    taker.inspect()
    taker.take_bases()
    assert list(Path(folder).iterdir()) != []

    assert engine.wait(helper.name("snapshots"))["StatusCode"] == 1
    assert list(Path(folder).iterdir()) == []


def test_volumes_are_measured_before_the_stop(taker: SnapshotTaker, root: Path) -> None:
    volumes.fill_with_every_kind_of_entry(root)

    found = taker.inspect()
    taker.take_bases()
    [archive] = taker.take_snapshots()

    assert archive.size <= found.sizes.used < 10 << 20
    assert found.sizes.apparent > 60 << 20
    assert found.free > 1 << 20


DU_WITHOUT_SUM = """
du() {
  case "$*" in
    *--version*) command du "$@" ;;
    *) if [ "$attempt" -le %s ]; then echo "du: fts_read failed" >&2; return 1; fi; command du "$@" ;;
  esac
}
"""
"""A `du` that prints no sum at its first attempts, as when the folder it reads vanishes."""


@pytest.mark.usefixtures("root")
def test_measurement_is_repeated_when_du_prints_no_sum(
    taker: SnapshotTaker, helper: SnapshotHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = snapshot_script.SNAPSHOT

    monkeypatch.setattr(snapshot_taker, "SNAPSHOT", script.replace("margin=5\n", DU_WITHOUT_SUM % 2))
    assert taker.inspect().sizes.used > 0
    helper.remove_all_helpers()

    monkeypatch.setattr(snapshot_taker, "SNAPSHOT", script.replace("margin=5\n", DU_WITHOUT_SUM % 100))
    with pytest.raises(HelperFailed, match="change too fast to be measured"):
        taker.inspect()


def test_linked_pipes_are_refused_before_the_stop(taker: SnapshotTaker, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "other").hardlink_to(root / "pipe")

    with pytest.raises(HelperFailed, match="this pipe or device has several hard links, which no archive keeps"):
        taker.inspect()


@pytest.mark.parametrize(
    ("name", "flag", "attribute"),
    [
        ("file", volumes.IMMUTABLE, "immutable"),
        ("folder", volumes.IMMUTABLE, "immutable"),
        ("file", volumes.APPEND_ONLY, "append-only"),
        ("folder", volumes.APPEND_ONLY, "append-only"),
        ("new\nline", volumes.APPEND_ONLY, "append-only"),
    ],
)
def test_entries_that_no_restore_can_replace_are_refused_before_the_stop(
    taker: SnapshotTaker, root: Path, name: str, flag: int, attribute: str
) -> None:
    (root / "file").write_text("content")
    (root / "new\nline").write_text("----i---- /a/name/like/the/output/of/lsattr")
    (root / "folder").mkdir()
    path = f"{root.parent.name}:/{name.splitlines()[0]}"
    refused = pytest.raises(HelperFailed, match=rf"this entry is {attribute} .*: {path}")
    with volumes.protected(root / name, flag), refused:
        taker.inspect()


def test_missing_volume_is_not_created(engine: docker.APIClient, helper: SnapshotHelper, folder: str) -> None:
    helper.pull_image()
    with pytest.raises(HelperFailed, match="does not exist"):
        SnapshotTaker(helper, ["no-such-volume"], folder).inspect()
    with pytest.raises(docker.errors.NotFound):
        engine.inspect_volume("no-such-volume")
