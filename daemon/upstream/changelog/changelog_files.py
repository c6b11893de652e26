"""The changelog files of a sync: their names, their contents, and the link to the newest. Used by `sync`.

- ``changelogs/internal/YYYY-MM-DD.md``
- ``changelogs/user-facing/YYYY-MM-DD.json``, in the shape of the image contract
- ``changelogs/user-facing/latest.json``, a relative link to the newest
- ``changelogs/upstream.json``, what the next sync starts from
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from daemon.upstream.changelog.internal_changelog import SyncContents, write_internal_changelog
from daemon.upstream.changelog.release_notes import ReleaseNotes, write_release_notes
from daemon.upstream.changelog.rewriter import RewriterFailed, rewrite
from daemon.upstream.errors import SyncRefused
from daemon.upstream.repository.git import Git
from daemon.upstream.repository.history import STATE_PATH
from daemon.upstream.scan.findings import ScanResult
from daemon.upstream.scan.hosted_mode import HostedModeContext

INTERNAL_FOLDER = "changelogs/internal"
USER_FACING_FOLDER = "changelogs/user-facing"
LATEST = f"{USER_FACING_FOLDER}/latest.json"


@dataclass(frozen=True)
class Changelogs:
    """The two changelogs of a sync.

    Attributes:
        version: The date, with a number if the date has a changelog already. It is the version and the file name.
        internal: Markdown.
        notes: The user-facing items.
        user_facing: JSON.
        warnings: What went wrong with the rewriter.
    """

    version: str
    internal: str
    notes: ReleaseNotes
    user_facing: str
    warnings: tuple[str, ...] = ()

    @property
    def internal_path(self) -> str:
        """Path of the internal changelog."""
        return f"{INTERNAL_FOLDER}/{self.version}.md"

    @property
    def user_facing_path(self) -> str:
        """Path of the user-facing changelog."""
        return f"{USER_FACING_FOLDER}/{self.version}.json"


def write_changelogs(
    contents: SyncContents, context: HostedModeContext, version: str, rewriter: Sequence[str] = ()
) -> Changelogs:
    """Write both changelogs.

    Args:
        contents: What the sync changed.
        context: The fork's words.
        version: From `next_version`.
        rewriter: Command that polishes the user-facing text, or nothing.
    """
    notes = write_release_notes((*contents.changes, *contents.own_new), context)
    warnings = []
    if rewriter and notes.sections:
        try:
            notes = rewrite(notes, rewriter, context)
        except RewriterFailed as error:
            warnings.append(f"{error} The text of the rules is used.")
    document = notes.document(version, version[:10])
    return Changelogs(
        version=version,
        internal=write_internal_changelog(contents, version),
        notes=notes,
        user_facing=json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        warnings=tuple(warnings),
    )


def next_version(today: date, taken: Collection[str]) -> str:
    """Return the date as version, with a number from 2 on if the date is taken.

    Args:
        today: The date in UTC.
        taken: Versions that exist.
    """
    version, number = today.isoformat(), 1
    while version in taken:
        number += 1
        version = f"{today.isoformat()}-{number}"
    return version


def versions_in(git: Git, commit: str) -> set[str]:
    """Return the versions of the changelogs in a commit."""
    paths = git.fields("ls-tree", "-z", "--name-only", commit, "--", f"{INTERNAL_FOLDER}/", f"{USER_FACING_FOLDER}/")
    return {match[0] for path in paths if (match := re.match(r"\d{4}-\d\d-\d\d(?:-\d+)?", Path(path).name))}


def versions_on_disk(root: Path) -> set[str]:
    """Return the versions of the changelogs in a working tree."""
    files = (*(root / INTERNAL_FOLDER).glob("*.md"), *(root / USER_FACING_FOLDER).glob("*.json"))
    return {file.stem for file in files}


def commit_changelogs(
    git: Git, parent: str, changelogs: Changelogs, *, upstream: str, scan: ScanResult, message: str
) -> str:
    """Commit the changelogs on top of a commit without a working tree.

    Writing into the object database cannot follow a symbolic link that upstream put in the way.

    Args:
        git: The repository.
        parent: The commit to add to.
        changelogs: What to write.
        upstream: The upstream commit that the fork contains now.
        scan: Result of the scan, which is known to the next one.
        message: Message of the commit.

    Returns:
        The new commit.
    """
    state = {"upstream": upstream, "findings": [{"path": f.path, "word": f.word} for f in scan.findings]}
    entries = (
        ("100644", changelogs.internal, changelogs.internal_path),
        ("100644", changelogs.user_facing, changelogs.user_facing_path),
        ("100644", json.dumps(state, indent=2) + "\n", STATE_PATH),
        ("120000", f"{changelogs.version}.json", LATEST),
    )
    path = git.git_dir / "flotilla" / "index"
    index = {"GIT_INDEX_FILE": str(path)}
    git.run("read-tree", parent, environment=index)
    for mode, content, name in entries:
        blob = git.run("hash-object", "-w", "--stdin", stdin=content.encode("utf-8", "backslashreplace"))
        cache_entry = f"{mode},{blob.stdout.decode().strip()},{name}"
        git.run("update-index", "--add", "--replace", "--cacheinfo", cache_entry, environment=index)
    tree = git.run("write-tree", environment=index).stdout.decode().strip()
    path.unlink()
    return git.text("commit-tree", tree, "-p", parent, "-m", message)


def write_to_disk(root: Path, changelogs: Changelogs) -> None:
    """Write the changelogs into a working tree, without a commit.

    Raises:
        SyncRefused: if a folder on the way is a symbolic link or a file.
    """
    for folder in ("changelogs", INTERNAL_FOLDER, USER_FACING_FOLDER):
        path = root / folder
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise SyncRefused(f"{folder} is not a folder.")
        path.mkdir(exist_ok=True)
    for name, text in (
        (changelogs.internal_path, changelogs.internal),
        (changelogs.user_facing_path, changelogs.user_facing),
    ):
        partial = root / f"{name}.partial"
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        partial.replace(root / name)
    link = root / f"{LATEST}.partial"
    link.unlink(missing_ok=True)
    link.symlink_to(f"{changelogs.version}.json")
    link.replace(root / LATEST)
