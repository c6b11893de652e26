"""What a sync did, for people and programs. Used by `sync`, the command line and the nightly job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from daemon.upstream.errors import ExitCode
from daemon.upstream.publishing.forges import OpenPullRequest
from daemon.upstream.repository.rebase import CommitSummary, Conflict
from daemon.upstream.scan.findings import ScanResult

_SHORT = 12


class Outcome(StrEnum):
    """How a sync ended."""

    UP_TO_DATE = "up to date"
    SYNCED = "synced"
    WAITING = "waiting"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class SyncReport:
    """The result of a sync.

    Attributes:
        outcome: How it ended.
        branch: The fork's branch.
        old: Where the branch was.
        new: Where the branch is.
        upstream: Newest commit of upstream.
        dry_run: Whether nothing was changed; `new` is where the branch would be.
        version: Version of the changelogs, or None.
        changes: Number of upstream's changes.
        backup: Branch that keeps the old commit, or None.
        pushed: Branch at origin that was pushed, or None.
        pull_request: The pull request, or None.
        conflict: The conflict, or None.
        people: Commits of people on the pull request's branch, which the sync waits for.
        scan: Result of the scan.
        warnings: What a person should check.
        notes: What else happened.
    """

    outcome: Outcome
    branch: str
    old: str
    new: str
    upstream: str
    dry_run: bool = False
    version: str | None = None
    changes: int = 0
    backup: str | None = None
    pushed: str | None = None
    pull_request: OpenPullRequest | None = None
    conflict: Conflict | None = None
    people: tuple[CommitSummary, ...] = ()
    scan: ScanResult = field(default_factory=ScanResult)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the command."""
        if self.outcome is Outcome.CONFLICT:
            return ExitCode.CONFLICT
        return ExitCode.FINDINGS if self.scan.findings else ExitCode.DONE

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "outcome": self.outcome.value,
            "branch": self.branch,
            "old": self.old,
            "new": self.new,
            "upstream": self.upstream,
            "dry_run": self.dry_run,
            "version": self.version,
            "changes": self.changes,
            "backup": self.backup,
            "pushed": self.pushed,
            "pull_request": asdict(self.pull_request) if self.pull_request else None,
            "conflict": conflict_as_json(self.conflict) if self.conflict else None,
            "people": [asdict(commit) for commit in self.people],
            "scan": self.scan.as_json(),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        """Return the report for people, one sentence per line."""
        yield from self.notes
        yield from self._outcome_lines()
        for warning in self.warnings:
            yield f"Warning: {warning}"
        yield from scan_lines(self.scan)

    def _outcome_lines(self) -> Iterator[str]:
        match self.outcome:
            case Outcome.UP_TO_DATE:
                yield f"Upstream has nothing new. {self.branch} is at {self.new[:_SHORT]}."
            case Outcome.WAITING:
                commits = counted(len(self.people), "commit")
                yield f"The pull request has {commits} by people. The sync waits until it is merged:"
                yield from (f"  {_commit(commit)}" for commit in self.people)
            case Outcome.CONFLICT if self.conflict:
                yield from conflict_lines(self.conflict)
                yield f"Nothing was changed: {self.branch} is at {self.old[:_SHORT]}."
            case _:
                would = "would move" if self.dry_run else "moved"
                yield f"{self.branch} {would} from {self.old[:_SHORT]} to {self.new[:_SHORT]}."
                changes = counted(self.changes, "change")
                yield f"Upstream is at {self.upstream[:_SHORT]}, with {changes} since the last sync."
                yield f"Changelogs: {self.version}"
        if self.backup:
            yield f"Backup branch: {self.backup}"
        if self.pushed:
            yield f"Pushed to {self.pushed}."
        if self.pull_request:
            done = "Opened" if self.pull_request.created else "Updated"
            yield f"{done} pull request {self.pull_request.number}: {self.pull_request.url}"


def conflict_lines(conflict: Conflict) -> Iterator[str]:
    """Return a conflict for people: each file with the commits of both sides."""
    yield f"Conflict: {_commit(conflict.commit)} does not apply to upstream."
    for file in conflict.files:
        yield f"  {file.path}: {file.kind}"
        yield f"    fork:     {_commit(conflict.commit)}"
        yield from (f"    upstream: {_commit(commit)}" for commit in file.upstream)
    if conflict.remaining:
        yield f"After it: {counted(conflict.remaining, 'more commit')} of the fork."
    yield "Rebase the branch by hand, resolve the conflict, and sync again. git rerere can remember the resolution."


def conflict_as_json(conflict: Conflict) -> dict[str, Any]:
    """Return a conflict for programs."""
    return {
        "commit": asdict(conflict.commit),
        "files": [asdict(file) for file in conflict.files],
        "remaining": conflict.remaining,
    }


def scan_lines(scan: ScanResult) -> Iterator[str]:
    """Return the result of a scan for people."""
    if not scan.folders:
        yield "Nothing was scanned: none of the configured folders exists. Set scan.folders in hosted-mode.toml."
        return
    for heading, findings in (("New", scan.new), ("Known", scan.known)):
        for finding in findings:
            more = f" (also {', '.join(map(str, finding.lines[1:]))})" if finding.lines[1:] else ""
            yield f"{heading}: {finding.path}:{finding.lines[0]}{more} uses {finding.word} without a guard"
            yield f"    {finding.excerpt}"
            yield f"    Suggestion: {finding.suggestion}"
    for path, word in scan.gone:
        reason = "is guarded now" if path in scan.guarded else "is gone"
        yield f"Gone: {path}: {word} {reason}"
    yield (
        f"Scanned {counted(scan.files, 'file')} in {', '.join(scan.folders)}: "
        f"{len(scan.new)} new, {len(scan.known)} known, {len(scan.gone)} gone."
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where needed."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _commit(commit: CommitSummary) -> str:
    return f"{commit.id[:_SHORT]} {commit.subject} ({commit.author})"
