"""A sync that is killed at any step: the next run finds the fork where it was or where it should be."""

from __future__ import annotations

import shutil
from datetime import date
from itertools import count
from pathlib import Path

import pytest

from daemon.upstream.errors import SyncRefused
from daemon.upstream.report import Outcome, SyncReport
from daemon.upstream.repository.git import open_repository
from daemon.upstream.repository.journal import Journal, Move
from daemon.upstream.repository.lock import locked
from daemon.upstream.repository.working_tree import recover
from daemon.upstream.sync import Mode, SyncOptions, sync
from tests.daemon.upstream.killing import Moment, sync_and_die
from tests.daemon.upstream.repos import Repo, World

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]
OPTIONS = SyncOptions(Mode.PUSH, today=date(2026, 3, 14))


@pytest.fixture
def template(world: World) -> World:
    """A fork with everything that a crash could damage. Relative remotes allow to copy the folder."""
    world.fork.git("remote", "set-url", "origin", "../origin.git")
    world.fork.git("remote", "set-url", "upstream", "../upstream")
    world.fork.write("stashed.txt", "stashed")
    world.fork.git("stash", "push", "--quiet", "--include-untracked")
    world.fork.write("untracked.txt", "mine")
    world.upstream.commit(
        "feat: add dark theme", {"a/new.txt": "1\n" * 5000, "README.md": "# Bot 2\n", "server/index.js": None}
    )
    return world


def copy_of(template: World, name: str) -> World:
    """Copy a world."""
    folder = template.folder.parent / f"{template.folder.name}-{name}"
    shutil.copytree(template.folder, folder, symlinks=True)
    return World(folder, Repo(folder / "upstream"), Repo(folder / "origin.git"), Repo(folder / "fork", "Frida Fork"))


def assert_synced(world: World, start: str) -> None:
    """Check that the fork is where it should be and that nothing is lost or left over."""
    fork = world.fork
    assert fork.log("upstream/main..main") == [
        "Sync with upstream 2026-03-14",
        "docs: describe the fork",
        "feat: add hosted mode",
    ]
    assert fork.git("status", "--porcelain") == "?? untracked.txt"
    assert fork.read("untracked.txt") == "mine"
    assert fork.git("show", "stash^3:stashed.txt") == "stashed"
    assert fork.read("README.md") == "# Bot 2\n"
    assert not (fork.path / "server/index.js").exists()
    assert fork.rev("flotilla/backup/main-2026-03-14") == start
    assert len(fork.git("worktree", "list").splitlines()) == 1
    assert sorted(path.name for path in (fork.path / ".git/flotilla").iterdir()) == ["last-sync.json", "lock"]
    assert fork.git("fsck", "--connectivity-only", "--no-dangling") == ""
    assert world.origin.rev("flotilla/upstream^{tree}") == fork.rev("main^{tree}")
    assert world.origin.rev("main") == start


def sync_again(world: World) -> SyncReport:
    """Sync, twice if a push that outlived its killed parent wins the race."""
    try:
        return sync(world.fork.path, OPTIONS)
    except SyncRefused as error:
        if "Run the sync again" not in str(error):
            raise
        return sync(world.fork.path, OPTIONS)


@pytest.mark.parametrize("moment", Moment)
def test_a_sync_killed_at_any_step_is_finished_by_the_next(template: World, moment: Moment) -> None:
    start = template.fork.head
    for step in count(1):
        world = copy_of(template, f"{moment.value}-{step}")
        died = sync_and_die(world.fork.path, Mode.PUSH, step, moment)
        if died:
            assert world.fork.read("untracked.txt") == "mine"
            assert sync_again(world).outcome in {Outcome.SYNCED, Outcome.UP_TO_DATE}
        assert_synced(world, start)
        shutil.rmtree(world.folder)
        if not died:
            assert step > 12
            return


def test_a_conflict_killed_at_any_step_leaves_the_fork_as_it_was(template: World) -> None:
    template.fork.commit("feat: ours", {"README.md": "# Ours\n"})
    for step in count(1):
        world = copy_of(template, f"conflict-{step}")
        before = world.fork.snapshot()
        died = sync_and_die(world.fork.path, Mode.LOCAL, step, Moment.AFTER)
        assert sync(world.fork.path, OPTIONS).outcome is Outcome.CONFLICT
        assert world.fork.snapshot() == before
        shutil.rmtree(world.folder)
        if not died:
            assert step > 3
            return


@pytest.mark.parametrize("written", ["nothing", "half of a file", "some files", "all files"])
def test_a_move_that_git_did_not_finish_is_finished(template: World, written: str) -> None:
    """Git dies while it writes files: the index is old and locked, the files are partly new."""
    fork = template.fork
    old = fork.head
    new = sync(fork.path, SyncOptions(Mode.DRY_RUN, today=OPTIONS.today)).new
    if written == "half of a file":
        fork.write("a/new.txt", b"1\n" * 700)
    elif written == "some files":
        fork.write("README.md", "# Bot 2\n")
    elif written == "all files":
        for path in fork.git("diff", "--name-only", "--no-renames", old, new).splitlines():
            if fork.git("ls-tree", new, "--", path).startswith("120000"):
                (fork.path / path).symlink_to(fork.git("show", f"{new}:{path}"))
            elif fork.git("ls-tree", new, "--", path):
                fork.write(path, fork.git("show", f"{new}:{path}") + "\n")
            else:
                (fork.path / path).unlink()
    fork.write(".git/index.lock", "")
    with locked(open_repository(fork.path)) as git:
        Journal(git).move = Move("main", old, new)
        recover(git)
        assert Journal(git).move is None
    assert fork.head == (old if written == "nothing" else new)
    assert fork.git("status", "--porcelain") == "?? untracked.txt"
    assert not (fork.path / ".git/index.lock").exists()


def test_files_changed_after_an_interrupted_move_are_not_lost(template: World) -> None:
    fork = template.fork
    old = fork.head
    new = sync(fork.path, SyncOptions(Mode.DRY_RUN, today=OPTIONS.today)).new
    fork.write("README.md", "# Bot 2\n")
    fork.write("FORK.md", "My work of this morning\n")
    with locked(open_repository(fork.path)) as git:
        Journal(git).move = Move("main", old, new)
    with pytest.raises(SyncRefused, match=r"changed since: FORK\.md"):
        sync(fork.path, OPTIONS)
    assert fork.read("FORK.md") == "My work of this morning\n"
    assert fork.head == old
    fork.git("reset", "--hard", "--quiet")
    assert sync(fork.path, OPTIONS).outcome is Outcome.SYNCED


def test_a_branch_moved_after_an_interrupted_move_is_left_alone(template: World) -> None:
    fork = template.fork
    old = fork.head
    new = sync(fork.path, SyncOptions(Mode.DRY_RUN, today=OPTIONS.today)).new
    with locked(open_repository(fork.path)) as git:
        Journal(git).move = Move("main", old, new)
    later = fork.commit("feat: later", {"FORK.md": "later\n"})
    with locked(open_repository(fork.path)) as git:
        assert recover(git) == ["The branch main was changed after an interrupted sync and is left as it is."]
    assert fork.head == later


def test_temporary_files_of_a_killed_sync_are_removed(template: World, tmp_path: Path) -> None:
    fork = template.fork
    fork.git("worktree", "add", "--quiet", "--detach", str(fork.path / ".git/flotilla/tree"), "HEAD")
    fork.write(".git/flotilla/index.lock", "")
    assert sync(fork.path, OPTIONS).outcome is Outcome.SYNCED
    assert len(fork.git("worktree", "list").splitlines()) == 1
