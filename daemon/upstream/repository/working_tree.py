"""The user's working tree: check it, move it to another commit, finish an interrupted move. Used by `sync`.

A sync prepares its result in a temporary working tree. Only `advance` changes the user's files, in three steps: write
the journal, update files and index, move the branch. `recover` finishes the steps after a crash.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from daemon.upstream.errors import GitFailed, SyncRefused
from daemon.upstream.repository.git import Git, decode
from daemon.upstream.repository.journal import Journal, Move

_OPERATIONS = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisect",
}
_LISTED_FILES = 10
_INDEX_LOCK_SECONDS = 3.0


@dataclass(frozen=True)
class Head:
    """The branch that is checked out, and its commit."""

    branch: str
    commit: str

    @property
    def ref(self) -> str:
        """Full name of the branch."""
        return f"refs/heads/{self.branch}"


def current_head(git: Git) -> Head:
    """Return the branch that is checked out.

    Raises:
        SyncRefused: if HEAD is detached or the branch has no commit.
    """
    branch = git.text("symbolic-ref", "--quiet", "--short", "HEAD", codes=(0, 1))
    if not branch:
        raise SyncRefused("HEAD is detached. Check out the fork's branch first, for example: git switch main")
    commit = git.commit_of("HEAD")
    if commit is None:
        raise SyncRefused(f"The branch {branch} has no commit.")
    return Head(branch, commit)


def require_clean(git: Git) -> None:
    """Check that no file with changes could be affected by a sync.

    Untracked files are allowed: `advance` does not overwrite them. Submodules are allowed: a sync leaves them alone.

    Raises:
        SyncRefused: if another operation of git is unfinished or a tracked file has changes.
    """
    for name, operation in _OPERATIONS.items():
        if (git.git_dir / name).exists():
            raise SyncRefused(f"The repository is in the middle of {operation}. Finish or abort it first.")
    # The user's own filters decide what counts as a change: a file of Git LFS differs from its pointer.
    status = git.run(
        "status",
        "--porcelain=v1",
        "-z",
        "--untracked-files=no",
        "--ignore-submodules=all",
        "--no-renames",
        options=(),
    )
    changed = [entry[3:] for entry in status.stdout.decode(errors="replace").split("\0") if entry]
    if changed:
        more = f" and {len(changed) - _LISTED_FILES} more" if len(changed) > _LISTED_FILES else ""
        raise SyncRefused(
            f"The working tree has uncommitted changes: {', '.join(changed[:_LISTED_FILES])}{more}. "
            "Commit or stash them first."
        )


def advance(git: Git, head: Head, new: str, reason: str) -> list[str]:
    """Move the branch, the index and the files to another commit.

    Args:
        git: The repository; `require_clean` passed.
        head: The branch and the commit it is at.
        new: The commit to move to.
        reason: Text for the branch's reflog.

    Returns:
        Warnings about submodules that the user must update.

    Raises:
        SyncRefused: if an untracked file would be overwritten or the branch was moved by another process. Nothing is
            changed then.
    """
    if new == head.commit:
        return []
    _require_free_paths(git, head.commit, new)
    journal = Journal(git)
    git.run("update-index", "-q", "--refresh", codes=(0, 1), options=())
    journal.move = Move(head.branch, head.commit, new)
    try:
        git.run("read-tree", "-m", "-u", head.commit, new)
    except GitFailed as error:
        # A two-tree merge of git checks everything before it writes the first file.
        if "would be overwritten" in error.detail or "not uptodate" in error.detail:
            journal.move = None
            raise SyncRefused(f"Local files are in the way, nothing was changed: {error.detail}") from error
        raise
    git.run("update-ref", "-m", reason, head.ref, new, head.commit)
    journal.move = None
    return _update_submodules(git, head.commit, new)


def recover(git: Git) -> list[str]:
    """Clean up after a sync that was killed. Safe to call at any time under the lock.

    Returns:
        What was done, one sentence each.

    Raises:
        SyncRefused: if files were changed since the interruption, so that finishing would lose work.
    """
    done = []
    if remove_temporary_tree(git):
        done.append("Removed the temporary working tree of an interrupted sync.")
    move = Journal(git).move
    if move is not None:
        done.append(_finish(git, move))
        Journal(git).move = None
    return done


def temporary_tree_path(git: Git) -> Path:
    """Return where the temporary working tree of a sync lies."""
    return git.git_dir / "flotilla" / "tree"


def remove_temporary_tree(git: Git) -> bool:
    """Remove the temporary working tree and git's record of it. Returns whether there was one."""
    path = temporary_tree_path(git)
    existed = path.exists()
    shutil.rmtree(path, ignore_errors=True)
    for name in ("index", "index.lock"):
        path.with_name(name).unlink(missing_ok=True)
    git.run("worktree", "prune")
    return existed


def _finish(git: Git, move: Move) -> str:
    head = f"refs/heads/{move.branch}"
    tip = git.commit_of(head)
    checked_out = git.text("symbolic-ref", "--quiet", "--short", "HEAD", codes=(0, 1))
    if tip not in {move.old, move.new} or checked_out != move.branch:
        return f"The branch {move.branch} was changed after an interrupted sync and is left as it is."
    _remove_stale_index_lock(git)
    if tip == move.old and not _has_begun(git, move):
        return f"The interrupted sync had changed nothing on {move.branch}."
    _require_explained(git, move)
    git.run("read-tree", "--reset", "-u", move.new)
    if tip == move.old:
        git.run("update-ref", "-m", "flotilla upstream: finish interrupted sync", head, move.new, move.old)
    return f"Finished the interrupted sync of {move.branch}."


def _require_free_paths(git: Git, old: str, new: str) -> None:
    """Check that no local file lies where the new commit adds one. Git itself would overwrite ignored files."""
    added = git.fields("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A", old, new)
    taken = [path for path in added if os.path.lexists(git.root / path)]
    if taken:
        raise SyncRefused(
            f"Local files are in the way, nothing was changed: {', '.join(taken[:_LISTED_FILES])}. "
            "Upstream adds files with these names. Move yours away first."
        )


def _has_begun(git: Git, move: Move) -> bool:
    """Return whether the interrupted move changed the index or a file."""
    if _changed_paths(git, move.old):
        return True
    added = git.fields("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=A", move.old, move.new)
    return any(os.path.lexists(git.root / path) for path in added)


def _require_explained(git: Git, move: Move) -> None:
    """Check that every changed file has the content of the old or the new commit, or is half-written."""
    old, new = _entries(git, move.old), _entries(git, move.new)
    candidates = {*_changed_paths(git, move.old), *(path for path in new if path not in old)}
    unexplained = sorted(path for path in candidates if not _is_explained(git, path, old.get(path), new.get(path)))
    if unexplained:
        raise SyncRefused(
            "An interrupted sync left the working tree between two commits, and these files were changed since: "
            f"{', '.join(unexplained[:_LISTED_FILES])}. Save them elsewhere, run git reset --hard, and sync again."
        )


def _is_explained(git: Git, path: str, old: str | None, new: str | None) -> bool:
    on_disk = _on_disk(git, path)
    if on_disk in {None, old, new}:
        return True
    file = git.root / path
    if new is None or not file.is_file():
        return False
    complete = git.run("cat-file", "--filters", f"--path={path}", new).stdout
    return complete.startswith(file.read_bytes())


def _changed_paths(git: Git, commit: str) -> list[str]:
    """Return the tracked files that differ from a commit, on disk or in the index."""
    git.run("update-index", "-q", "--refresh", codes=(0, 1), options=())
    options = ("-z", "--name-only", "--no-renames", "--ignore-submodules=all")
    on_disk = git.run("diff-index", *options, commit, options=())
    in_index = git.run("diff-index", "--cached", *options, commit, options=())
    return [path for path in decode(on_disk.stdout + in_index.stdout).split("\0") if path]


def _entries(git: Git, commit: str) -> dict[str, str]:
    """Return the blobs of a commit by path. Submodules are left out."""
    entries = (entry.split("\t", 1) for entry in git.fields("ls-tree", "-r", "-z", commit))
    return {path: description.split()[2] for description, path in entries if not description.startswith("160000")}


def _on_disk(git: Git, path: str) -> str | None:
    """Return the blob that a file on disk would become, or None if it does not exist."""
    file = git.root / path
    if file.is_symlink():
        target = os.fsencode(file.readlink())
        return git.run("hash-object", "--stdin", stdin=target).stdout.decode().strip()
    if not file.is_file():
        return None
    return git.text("hash-object", f"--path={path}", "--", path)


def _remove_stale_index_lock(git: Git) -> None:
    """Remove the lock that a killed git left on the index, after giving a running git the time to finish."""
    lock = git.git_dir / "index.lock"
    deadline = time.monotonic() + _INDEX_LOCK_SECONDS
    while lock.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    lock.unlink(missing_ok=True)


def _update_submodules(git: Git, old: str, new: str) -> list[str]:
    """Check out the new commit in every submodule that was at its old commit."""
    warnings = []
    parts = iter(git.fields("diff-tree", "-r", "-z", "--no-renames", old, new))
    for description, path in zip(parts, parts, strict=True):
        old_mode, new_mode, before, after, _ = description.removeprefix(":").split()
        folder = git.root / path
        if {old_mode, new_mode} != {"160000"} or not (folder / ".git").exists():
            continue
        if git.at(folder).commit_of("HEAD") == before and _update_submodule(git, path):
            continue
        warnings.append(f"The submodule {path} is not at {after[:12]}. Run: git submodule update {path}")
    return warnings


def _update_submodule(git: Git, path: str) -> bool:
    try:
        git.run_over_network("submodule", "--quiet", "update", "--", path)
    except GitFailed:
        return False
    return True
