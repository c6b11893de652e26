"""Findings of the scan and their comparison with the last sync. Used by `scanner`, changelogs and `pull_request`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, order=True)
class Finding:
    """A word of hosted mode in a file without a guard.

    Attributes:
        path: The file, relative to the top folder.
        word: The word.
        subject: ``infrastructure`` or ``organization``.
        lines: Numbers of the lines that use the word.
        excerpt: The first of these lines.
        suggestion: A guard to add.
    """

    path: str
    word: str
    subject: str
    lines: tuple[int, ...]
    excerpt: str
    suggestion: str

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the finding when lines move."""
        return self.path, self.word

    def as_json(self) -> dict[str, Any]:
        """Return the finding for programs."""
        return {
            "path": self.path,
            "word": self.word,
            "subject": self.subject,
            "lines": list(self.lines),
            "excerpt": self.excerpt,
            "suggestion": self.suggestion,
        }


@dataclass(frozen=True)
class ScanResult:
    """Findings of one scan, compared with the last sync.

    Attributes:
        new: Findings that the last sync did not have.
        known: Findings that it had.
        gone: Path and word of findings that no longer exist.
        files: Number of files that were scanned.
        folders: Folders that were scanned.
        guarded: Files that use the words behind a guard.
    """

    new: tuple[Finding, ...] = ()
    known: tuple[Finding, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()
    files: int = 0
    folders: tuple[str, ...] = ()
    guarded: frozenset[str] = field(default=frozenset())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings by path and word."""
        return tuple(sorted(self.new + self.known))

    @property
    def guards_added(self) -> tuple[tuple[str, str], ...]:
        """Findings of the last sync whose file has a guard now."""
        return tuple(key for key in self.gone if key[0] in self.guarded)

    def as_json(self) -> dict[str, Any]:
        """Return the result for programs."""
        return {
            "files": self.files,
            "folders": list(self.folders),
            "new": [finding.as_json() for finding in self.new],
            "known": [finding.as_json() for finding in self.known],
            "gone": [{"path": path, "word": word, "guarded": path in self.guarded} for path, word in self.gone],
        }


def compare(
    findings: Iterable[Finding],
    before: Collection[tuple[str, str]],
    *,
    files: int,
    folders: tuple[str, ...],
    guarded: frozenset[str],
) -> ScanResult:
    """Sort findings into new, known and gone.

    Args:
        findings: Findings of this scan.
        before: Path and word of the findings of the last sync.
        files: Number of files that were scanned.
        folders: Folders that were scanned.
        guarded: Files that use the words behind a guard.
    """
    found = sorted(findings)
    keys = {finding.key for finding in found}
    return ScanResult(
        new=tuple(finding for finding in found if finding.key not in before),
        known=tuple(finding for finding in found if finding.key in before),
        gone=tuple(sorted(key for key in before if key not in keys)),
        files=files,
        folders=folders,
        guarded=guarded,
    )
