"""The internal changelog: everything a sync changed, as Markdown for developers. Used by `changelog_files`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from daemon.upstream.changelog.changes import Change
from daemon.upstream.changelog.commits import Commit
from daemon.upstream.changelog.vocabulary import Kind
from daemon.upstream.repository.rebase import CommitSummary, Replay
from daemon.upstream.scan.findings import Finding, ScanResult

_SHORT = 9


@dataclass(frozen=True)
class SyncContents:
    """What a changelog is written from.

    Attributes:
        since: Commit of upstream that the last changelog covers.
        upstream: Newest commit of upstream.
        changes: Upstream's changes, oldest first.
        own_new: The fork's own changes since the last sync, oldest first.
        reapplied: The fork's own commits on top of upstream, oldest first.
        replay: How they were applied, or None if nothing was replayed.
        dropped_upstream: Commits that upstream removed by a forced push.
        scan: Result of the scan.
    """

    since: str
    upstream: str
    changes: tuple[Change, ...]
    own_new: tuple[Change, ...] = ()
    reapplied: tuple[CommitSummary, ...] = ()
    replay: Replay | None = None
    dropped_upstream: tuple[CommitSummary, ...] = ()
    scan: ScanResult = field(default_factory=ScanResult)


def write_internal_changelog(contents: SyncContents, version: str) -> str:
    """Write the internal changelog.

    Args:
        contents: What the sync changed.
        version: Name of the version, which is the heading.
    """
    count = len(contents.changes)
    span = f"`{contents.since[:_SHORT]}..{contents.upstream[:_SHORT]}`"
    parts = [f"# Upstream sync {version}", f"Upstream {span}: {count} change{'' if count == 1 else 's'}."]
    for heading, lines in _sections(contents):
        if lines:
            parts += [f"## {heading}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _sections(contents: SyncContents) -> Iterator[tuple[str, list[str]]]:
    standing = [change for change in contents.changes if change.reverted_by is None and change.commit.reverts is None]
    yield "Upstream rewrote its history", [f"- Removed: {_summary(commit)}" for commit in contents.dropped_upstream]
    yield "Breaking changes", [_breaking(change.commit) for change in standing if change.commit.breaking is not None]
    for kind in Kind:
        yield kind.value, [line for change in standing if change.kind is kind for line in _change(change)]
    yield "Reverted", [line for change in contents.changes for line in _reverted(change)]
    yield "New in the fork", [line for change in contents.own_new for line in _change(change)]
    yield "Our commits, re-applied", [f"- {_summary(commit)}" for commit in contents.reapplied]
    if contents.replay:
        yield (
            "Our commits that upstream contains now",
            [f"- {_summary(commit)}" for commit in contents.replay.dropped],
        )
        yield "Conflicts resolved with recorded resolutions", list(_resolved(contents.replay))
        yield "To check", [f"- {warning}" for warning in contents.replay.warnings]
    yield "Guards added", [f"- `{path}`: `{word}`" for path, word in contents.scan.guards_added]
    yield "New findings of the scan", finding_lines(contents.scan.new)
    yield "Known findings of the scan", finding_lines(contents.scan.known)
    yield "Findings that are gone", [f"- `{path}`: `{word}`" for path, word in contents.scan.gone]


def finding_lines(findings: Iterable[Finding], bullet: str = "-") -> list[str]:
    """Return findings as a Markdown list.

    Args:
        findings: The findings.
        bullet: What each line begins with.
    """
    return [
        f"{bullet} `{finding.path}`: `{finding.word}` in line{'s' if len(finding.lines) > 1 else ''} "
        f"{', '.join(map(str, finding.lines))}. Suggestion: `{finding.suggestion}`"
        for finding in findings
    ]


def _change(change: Change) -> list[str]:
    return [f"- {_commit(change.commit)}", *(f"  - {_commit(part)}" for part in change.parts)]


def _commit(commit: Commit) -> str:
    scope = f"**{_text(commit.scope)}**: " if commit.scope else ""
    people = _people([commit.author, *commit.co_authors])
    number = f", #{commit.number}" if commit.number is not None else ""
    return f"{scope}{_text(commit.text or commit.subject)} ({people}, `{commit.id[:_SHORT]}`{number})"


def _breaking(commit: Commit) -> str:
    explanation = f" {_text(commit.breaking)}" if commit.breaking else ""
    return f"- {_commit(commit)}{'.' if explanation else ''}{explanation}"


def _reverted(change: Change) -> list[str]:
    if change.reverted_by is not None:
        return [f"- {_commit(change.commit)}, reverted by `{change.reverted_by[:_SHORT]}`"]
    return [f"- {_commit(change.commit)}"] if change.commit.reverts is not None else []


def _resolved(replay: Replay) -> Iterator[str]:
    for commit, files in replay.resolved:
        yield f"- {_summary(commit)}: {', '.join(f'`{file}`' for file in files)}"


def _summary(commit: CommitSummary) -> str:
    return f"{_text(commit.subject)} ({_text(commit.author)}, `{commit.id[:_SHORT]}`)"


def _people(names: Sequence[str]) -> str:
    author, *others = map(_text, names)
    return f"{author} with {', '.join(others)}" if others else author


def _text(text: str) -> str:
    """Return a text on one line that Markdown shows as it is."""
    return (
        " ".join(text.split())
        .replace("\\", "\\\\")
        .translate({ord(character): f"\\{character}" for character in "`*_[]<>|"})
    )
