"""The scan for user interface code that hosted mode must hide. Used by `sync` and `flotilla upstream scan`.

`git grep` finds the files that contain a word, with as many threads as there are cores. Only those files are read.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from daemon.upstream.repository.git import Git
from daemon.upstream.scan.findings import Finding, ScanResult, compare
from daemon.upstream.scan.hosted_mode import HostedModeContext
from daemon.upstream.scan.source import EXTENSIONS, Language, language_of, without_comments, without_imports
from daemon.upstream.scan.usage import imported_names, reexported_names, uses_only_behind_guard

_SIZE_LIMIT = 2 * 1024 * 1024
_EXCERPT_LENGTH = 120
_IMPORT_LINE = r"(from|import|require|include|extends|embed)[ (]*.*['\"]"
_SPECIFIER = re.compile(r"(?:\bfrom|\bimport|\brequire|\binclude|\bextends|\bembed)\s*\(?\s*['\"]([^'\"\n]+)['\"]")


@dataclass(frozen=True)
class _Examined:
    """What one file uses."""

    path: str
    findings: tuple[Finding, ...]
    is_guarded: bool


@dataclass(frozen=True)
class _Examiner:
    """Reads files one by one."""

    root: Path
    context: HostedModeContext
    guards: re.Pattern[str]

    def examine(self, path: str) -> _Examined | None:
        """Read a file. Returns None if it cannot be read or uses no word outside comments."""
        text = _read(self.root / path)
        if text is None:
            return None
        code = without_comments(text, language_of(path))
        words = [word for word in self.context.scan_words if word in code]
        if not words:
            return None
        if any(guard in code for guard in self.context.guards) and self.guards.search(without_imports(code)):
            return _Examined(path, (), is_guarded=True)
        return _Examined(path, tuple(self._finding(path, text, code, word) for word in words), is_guarded=False)

    def _finding(self, path: str, text: str, code: str, word: str) -> Finding:
        lines = tuple(number for number, line in enumerate(code.split("\n"), 1) if word in line)
        subject = "infrastructure" if word in self.context.infrastructure_words else "organization"
        excerpt = text.split("\n")[lines[0] - 1].strip()[:_EXCERPT_LENGTH]
        return Finding(path, word, subject, lines, excerpt, suggest_guard(path, self.context.guards))


def scan(git: Git, context: HostedModeContext, before: Collection[tuple[str, str]]) -> ScanResult:
    """Scan a working tree.

    Args:
        git: Git in the working tree.
        context: The fork's words, folders and lists.
        before: Path and word of the findings of the last sync.

    Returns:
        The findings, compared with the last sync.
    """
    folders = tuple(folder for folder in context.folders if (git.root / folder).is_dir())
    if not folders:
        return compare((), before, files=0, folders=(), guarded=frozenset())
    pathspecs = [
        *(f":(top){folder}" for folder in folders),
        *(f":(top,exclude,glob){glob}" for glob in context.ignore),
    ]
    files = [
        path
        for path in git.fields("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *pathspecs)
        if _is_ui(path)
    ]
    patterns = [part for word in context.scan_words for part in ("-e", word)]
    candidates = _grep(git, "--files-with-matches", "--fixed-strings", *patterns, "--", *pathspecs)
    guards = re.compile(rf"\b(?:{'|'.join(map(re.escape, context.guards)) or '(?!)'})\b")
    examine = _Examiner(git.root, context, guards).examine
    examined = [file for file in map(examine, filter(_is_ui, candidates)) if file is not None]
    listed = _listed(git, context.guarded_children)
    guarded = {file.path for file in examined if file.is_guarded}
    open_files = {file.path: file.findings for file in examined if not file.is_guarded and file.path not in listed}
    if open_files:
        parents = _Parents(git, context, guards, pathspecs)
        guarded |= {path for path in open_files if parents.guard(path)}
    findings = [finding for path, found in open_files.items() if path not in guarded for finding in found]
    return compare(findings, before, files=len(files), folders=folders, guarded=frozenset(guarded | listed))


def suggest_guard(path: str, guards: Sequence[str]) -> str:
    """Return a guard to add, in the language of a file."""
    plain = next((guard for guard in guards if "_" not in guard), guards[0] if guards else "isHosted")
    python = next((guard for guard in guards if "_" in guard), plain)
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in {".tsx", ".jsx"}:
        return f"{{!{plain} && (…)}}"
    if suffix == ".vue":
        return f'v-if="!{plain}"'
    if suffix == ".svelte":
        return f"{{#if !{plain}}}…{{/if}}"
    if language_of(path) is Language.TEMPLATE:
        return f"{{% if not {python} %}}…{{% endif %}}"
    return f"if ({plain}) return;"


class _Parents:
    """The files that import a file, and whether each of them shows it only behind a guard."""

    def __init__(
        self, git: Git, context: HostedModeContext, guards: re.Pattern[str], pathspecs: Sequence[str]
    ) -> None:
        self._root = git.root
        self._context = context
        self._guards = guards
        self._verdicts: dict[str, bool] = {}
        self._importers: dict[str, set[tuple[str, str]]] = {}
        for path, line in _grep_lines(git, "--extended-regexp", "-e", _IMPORT_LINE, "--", *pathspecs):
            for specifier in _SPECIFIER.findall(line):
                self._importers.setdefault(_stem(specifier), set()).add((path, specifier))

    def guard(self, path: str) -> bool:
        """Return whether every parent of a file is guarded, or shows the file only behind a guard."""
        if path not in self._verdicts:
            self._verdicts[path] = False  # the answer for a cycle of imports
            parents = [(parent, specifier) for parent, specifier in self._parents(path) if parent != path]
            self._verdicts[path] = bool(parents) and all(self._guards_child(*parent, path) for parent in parents)
        return self._verdicts[path]

    def _parents(self, path: str) -> list[tuple[str, str]]:
        file = PurePosixPath(path)
        stems = {file.stem, file.parent.name} if file.stem == "index" else {file.stem}
        found = {entry for stem in stems for entry in self._importers.get(stem, ())}
        return sorted(entry for entry in found if _is_ui(entry[0]) and self._resolves(*entry, path))

    def _resolves(self, parent: str, specifier: str, path: str) -> bool:
        targets = {path, posixpath.splitext(path)[0]}
        if PurePosixPath(path).stem == "index":
            targets.add(posixpath.dirname(path))
        if language_of(parent) is Language.TEMPLATE:
            return path.endswith(f"/{specifier.lstrip('./')}")
        return any(candidate in targets for candidate in self._candidates(parent, specifier))

    def _candidates(self, parent: str, specifier: str) -> Iterator[str]:
        specifier = re.sub(r"\.m?js$|\?\w+$", "", specifier)
        if specifier.startswith("."):
            yield posixpath.normpath(posixpath.join(posixpath.dirname(parent), specifier))
        for prefix, folder in self._context.aliases:
            if specifier.startswith(prefix):
                yield posixpath.normpath(posixpath.join(folder, specifier.removeprefix(prefix)))
        if specifier.startswith(("@/", "~/")):
            top = parent.split("/", 1)[0]
            yield posixpath.normpath(f"{top}/src/{specifier[2:]}")
            yield posixpath.normpath(f"{top}/{specifier[2:]}")

    def _guards_child(self, parent: str, specifier: str, child: str) -> bool:
        text = _read(self._root / parent)
        if text is None:
            return False
        language = language_of(parent)
        code = without_comments(text, language)
        if language is Language.TEMPLATE:
            names = {specifier}
        elif reexported_names(code, specifier) is not None:
            return self._guards_reexport(parent, child)
        else:
            names = imported_names(code, specifier)
            if not names:
                return _imports_types_only(code, specifier)
        return uses_only_behind_guard(text, language, names, self._guards) or self.guard(parent)

    def _guards_reexport(self, barrel: str, child: str) -> bool:
        """Return whether every file that imports a child through a barrel shows it only behind a guard."""
        names = {PurePosixPath(child).stem}
        text = _read(self._root / child) or ""
        names |= set(re.findall(r"\bexport\s+(?:default\s+)?(?:async\s+)?(?:function|const|class|let)\s+(\w+)", text))
        parents = [entry for entry in self._parents(barrel) if entry[0] != barrel]
        for parent, specifier in parents:
            code = without_comments(_read(self._root / parent) or "", language_of(parent))
            if reexported_names(code, specifier) is not None:
                return False
            used = imported_names(code, specifier) & names
            if used and not uses_only_behind_guard(code, language_of(parent), used, self._guards):
                return False
        return bool(parents)


def _imports_types_only(code: str, specifier: str) -> bool:
    return re.search(rf"\bimport\s+type\b[^;'\"]*\bfrom\s*['\"]{re.escape(specifier)}['\"]", code) is not None


def _listed(git: Git, globs: Sequence[str]) -> set[str]:
    if not globs:
        return set()
    return set(
        git.fields(
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            *(f":(top,glob){glob}" for glob in globs),
        )
    )


def _grep(git: Git, *arguments: str) -> list[str]:
    return git.fields("grep", "-z", "--untracked", "--full-name", *arguments, codes=(0, 1))


def _grep_lines(git: Git, *arguments: str) -> Iterator[tuple[str, str]]:
    output = git.text("grep", "-z", "-I", "--untracked", "--full-name", *arguments, codes=(0, 1))
    for record in output.splitlines():
        path, _, line = record.partition("\0")
        yield path, line


def _is_ui(path: str) -> bool:
    return posixpath.splitext(path)[1].lower() in EXTENSIONS


@cache
def _stem(specifier: str) -> str:
    name = posixpath.basename(specifier.rstrip("/"))
    return re.sub(r"\.(?:tsx?|jsx?|mjs|vue|svelte|html?|jinja2?|j2)$", "", name)


def _read(path: Path) -> str | None:
    try:
        if path.is_symlink() or path.stat().st_size > _SIZE_LIMIT:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
