"""Upstream's commits as changes: pull requests with their commits, reverts cancelled. Used by the changelogs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from daemon.upstream.changelog.commits import Commit, read_commits
from daemon.upstream.changelog.vocabulary import KIND_OF_FIRST_WORD, KIND_OF_TYPE, Kind
from daemon.upstream.repository.git import Git


@dataclass(frozen=True)
class Change:
    """A commit, or a pull request with its commits.

    Attributes:
        commit: The commit on upstream's branch, or the merge of the pull request.
        kind: The group it belongs to.
        parts: The commits that a merge brought, oldest first.
        reverted_by: Id of the commit that took it back, or None.
        is_own: Whether the change is the fork's own.
    """

    commit: Commit
    kind: Kind
    parts: tuple[Commit, ...] = field(default=())
    reverted_by: str | None = None
    is_own: bool = False


def read_changes(git: Git, ids: Sequence[str], *, is_own: bool = False, excluded: Sequence[str] = ()) -> list[Change]:
    """Read changes in the order of their commits.

    Args:
        git: The repository.
        ids: Commits on the first-parent line, oldest first.
        is_own: Whether they are the fork's own.
        excluded: Commits that merges may bring without being new.

    Returns:
        The changes. A merge that says nothing is replaced by its commits; one that brings nothing is left out.
    """
    found: list[tuple[Commit, tuple[Commit, ...]]] = []
    for commit in read_commits(git, ids):
        parts = tuple(read_commits(git, _brought_by(git, commit, excluded))) if commit.is_merge else ()
        if commit.is_merge and not (commit.title and parts):
            found.extend((part, ()) for part in parts)
        else:
            found.append((commit, parts))
    return to_changes(found, is_own=is_own)


def to_changes(found: Sequence[tuple[Commit, Sequence[Commit]]], *, is_own: bool = False) -> list[Change]:
    """Make changes out of commits and the parts of merges, with reverts cancelled.

    A revert that was reverted itself has no effect, so that the change it took back counts again.
    """
    reverted = _reverted(found)
    return [
        Change(commit, kind_of(commit, parts), tuple(parts), reverted.get(commit.id), is_own)
        for commit, parts in found
    ]


def kind_of(commit: Commit, parts: Sequence[Commit] = ()) -> Kind:
    """Return the group of a commit by its type, or by its first word, or by the commits that a merge brought."""
    if commit.is_dependency_update:
        return Kind.DEPENDENCY
    if commit.type is not None:
        return KIND_OF_TYPE[commit.type]
    first = re.match(r"[A-Za-z]+", commit.text)
    if first and first[0].lower() in KIND_OF_FIRST_WORD:
        return KIND_OF_FIRST_WORD[first[0].lower()]
    kinds = {kind_of(part) for part in parts} - {Kind.OTHER}
    return next((kind for kind in Kind if kind in kinds), Kind.OTHER)


def _brought_by(git: Git, merge: Commit, excluded: Sequence[str]) -> list[str]:
    first, *others = merge.parents
    return git.lines(
        "rev-list",
        "--reverse",
        "--topo-order",
        "--no-merges",
        *others,
        *(f"^{commit}" for commit in (first, *excluded)),
    )


def _reverted(found: Sequence[tuple[Commit, Sequence[Commit]]]) -> dict[str, str]:
    """Return which commit reverted which, newest first so that a reverted revert does not count."""
    reverted: dict[str, str] = {}
    commits = [commit for commit, _ in found]
    for position in range(len(commits) - 1, -1, -1):
        commit = commits[position]
        if commit.reverts is None or commit.id in reverted:
            continue
        target = _target(commit.reverts, commits[:position], reverted)
        if target is not None:
            reverted[target.id] = commit.id
    return reverted


def _target(reverts: str, earlier: Sequence[Commit], reverted: dict[str, str]) -> Commit | None:
    for commit in reversed(earlier):
        if commit.id not in reverted and (commit.title == reverts or _is_id_of(reverts, commit)):
            return commit
    return None


def _is_id_of(reverts: str, commit: Commit) -> bool:
    return re.fullmatch(r"[0-9a-f]{7,40}", reverts) is not None and commit.id.startswith(reverts)
