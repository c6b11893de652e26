"""Replay the fork's own commits on upstream in a temporary working tree. Used by `sync`.

The user's branch, index, files and stash are not involved: a conflict or a crash leaves them as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from daemon.upstream.errors import ExitCode, GitFailed, UpstreamError
from daemon.upstream.repository.git import Git
from daemon.upstream.repository.working_tree import remove_temporary_tree, temporary_tree_path

_UPSTREAM_COMMITS_SHOWN = 3
_KINDS = {
    frozenset("123"): "changed on both sides",
    frozenset("12"): "changed by upstream, deleted by the fork",
    frozenset("13"): "deleted by upstream, changed by the fork",
    frozenset("23"): "added on both sides",
}


@dataclass(frozen=True)
class CommitSummary:
    """One commit as a report shows it."""

    id: str
    author: str
    subject: str


@dataclass(frozen=True)
class ConflictingFile:
    """A file that two sides changed.

    Attributes:
        path: The file.
        kind: What the two sides did.
        upstream: Upstream's newest commits that touch the file, newest first.
    """

    path: str
    kind: str
    upstream: tuple[CommitSummary, ...]


@dataclass(frozen=True)
class Replay:
    """The result of a replay without conflicts.

    Attributes:
        tip: The last commit.
        dropped: Own commits whose changes upstream has already.
        resolved: Files whose conflict git resolved with a recorded resolution (rerere), by own commit.
        warnings: What a person should check.
    """

    tip: str
    dropped: tuple[CommitSummary, ...] = ()
    resolved: tuple[tuple[CommitSummary, tuple[str, ...]], ...] = ()
    warnings: tuple[str, ...] = ()


class Conflict(UpstreamError):
    """An own commit does not apply to upstream.

    Args:
        commit: The fork's commit.
        files: The files in conflict.
        remaining: Number of own commits that come after it.
    """

    exit_code = ExitCode.CONFLICT

    def __init__(self, commit: CommitSummary, files: tuple[ConflictingFile, ...], remaining: int) -> None:
        super().__init__(f"{commit.id[:12]} {commit.subject} ({commit.author}) conflicts with upstream.")
        self.commit = commit
        self.files = files
        self.remaining = remaining


@contextmanager
def temporary_tree(git: Git, commit: str) -> Iterator[Git]:
    """Check a commit out in a temporary working tree.

    Args:
        git: The repository.
        commit: What to check out, without a branch.

    Yields:
        Git in the temporary working tree, which is removed afterwards.
    """
    remove_temporary_tree(git)
    path = temporary_tree_path(git)
    try:
        git.run("worktree", "add", "--detach", "--force", str(path), commit)
        yield git.at(path)
    finally:
        remove_temporary_tree(git)


def replay(tree: Git, commits: tuple[str, ...], base: str) -> Replay:
    """Apply commits on top of the temporary working tree's commit.

    Args:
        tree: Git in the temporary working tree, at upstream's newest commit.
        commits: The fork's own commits, oldest first.
        base: Commit of upstream that they were made on.

    Returns:
        The new tip and what happened on the way.

    Raises:
        Conflict: if a commit does not apply and rerere knows no resolution.
        GitFailed: if git cannot go on for another reason.
    """
    upstream = tree.text("rev-parse", "HEAD")
    dropped: list[CommitSummary] = []
    resolved: list[tuple[CommitSummary, tuple[str, ...]]] = []
    step: tuple[str, ...] = ("--allow-empty", *commits)
    stopped_at: str | None = None
    while commits:
        done = tree.run("cherry-pick", *step, codes=(0, 1, 128))
        if done.returncode == 0:
            break
        commit = tree.commit_of("CHERRY_PICK_HEAD")
        if commit is None or commit == stopped_at:
            raise GitFailed("cherry-pick", done.stderr.decode(errors="replace").strip(), done.returncode)
        stopped_at = commit
        if _unmerged(tree):
            conflict = _conflict(tree, commit, commits, base, upstream)
            tree.run("cherry-pick", "--abort", codes=(0, 1, 128))
            raise conflict
        if tree.succeeds("diff", "--cached", "--quiet", "HEAD"):
            dropped.append(summary(tree, commit))
            step = ("--skip",)
        else:
            files = tree.fields("diff", "--cached", "--name-only", "-z", "HEAD")
            resolved.append((summary(tree, commit), tuple(files)))
            step = ("--continue",)
    return Replay(tree.text("rev-parse", "HEAD"), tuple(dropped), tuple(resolved))


def keep_merge_changes(tree: Git, start: str, upstream: str) -> str | None:
    """Compare the replay with a merge, and add what only merge commits of the fork had changed.

    A merge commit can contain changes that its parts do not have, such as a resolved conflict. A replay loses them.

    Args:
        tree: Git in the temporary working tree, at the end of the replay.
        start: The fork before the replay.
        upstream: Newest commit of upstream.

    Returns:
        A warning for people, or None if the replay equals the merge.
    """
    merged = tree.run("merge-tree", "--write-tree", start, upstream, codes=(0, 1, 128, 129))
    if merged.returncode != 0:
        return "The fork contains merge commits. Check that the sync kept what they changed."
    wanted = merged.stdout.decode().split()[0]
    if wanted == tree.tree_of("HEAD"):
        return None
    message = "Keep what merge commits of the fork changed\n\nReplaying their parts on upstream does not contain it."
    commit = tree.text("commit-tree", wanted, "-p", "HEAD", "-m", message)
    tree.run("reset", "--hard", "--quiet", commit)
    return f"Merge commits of the fork had changes of their own. They are kept in the commit {commit[:12]}."


def summary(git: Git, commit: str) -> CommitSummary:
    """Return id, author and subject of a commit."""
    return summaries(git, "-1", commit)[0]


def summaries(git: Git, *arguments: str) -> tuple[CommitSummary, ...]:
    """Return the commits that ``git log`` lists for the arguments."""
    records = git.text("log", "--encoding=UTF-8", "--format=%H%x1f%an%x1f%s", *arguments).splitlines()
    return tuple(CommitSummary(*record.split("\x1f", 2)) for record in records if record)


def _unmerged(tree: Git) -> dict[str, set[str]]:
    """Return the conflicting files with the stages that the index has of them."""
    stages: dict[str, set[str]] = {}
    for entry in tree.fields("ls-files", "--unmerged", "-z"):
        description, path = entry.split("\t", 1)
        stages.setdefault(path, set()).add(description.split()[2])
    return stages


def _conflict(tree: Git, commit: str, commits: tuple[str, ...], base: str, upstream: str) -> Conflict:
    files = []
    for path, stages in sorted(_unmerged(tree).items()):
        theirs = summaries(
            tree, f"--max-count={_UPSTREAM_COMMITS_SHOWN}", "--no-merges", upstream, f"^{base}", "--", path
        )
        files.append(ConflictingFile(path, _KINDS.get(frozenset(stages), "renamed or moved on one side"), theirs))
    remaining = len(commits) - commits.index(commit) - 1 if commit in commits else 0
    return Conflict(summary(tree, commit), tuple(files), remaining)
