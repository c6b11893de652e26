"""Commits and what their messages say: type, scope, pull request, reverts, co-authors. Used by `changes`.

Understands conventional commits (https://www.conventionalcommits.org), gitmoji, and the merge messages of GitHub,
GitLab, Gitea, Forgejo and Bitbucket.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from daemon.upstream.changelog.vocabulary import KIND_OF_TYPE, TYPE_OF_EMOJI
from daemon.upstream.repository.git import Git

_CONVENTIONAL = re.compile(
    r"(?P<type>[A-Za-z][\w-]{0,20})\s*(?:[(\[](?P<scope>[^)\]]*)[)\]])?\s*(?P<breaking>!)?\s*:\s*(?P<rest>\S.*)",
    re.DOTALL,
)
_BRACKETED = re.compile(r"\[(?P<type>[A-Za-z][\w -]{0,20})\]\s*:?\s*(?P<rest>\S.*)", re.DOTALL)
_PR_SUFFIX = re.compile(r"\s*[(\[](?:#|!|PR ?#?|GH-)(\d+)[)\]]\s*$", re.IGNORECASE)
_BREAKING_FOOTER = re.compile(r"^BREAKING[ -]CHANGES?:\s*(.+)", re.MULTILINE)
_CO_AUTHOR = re.compile(r"^co-authored-by:\s*([^<\n]+?)\s*(?:<|$)", re.IGNORECASE | re.MULTILINE)
_REVERTED_ID = re.compile(r"\bThis reverts (?:commit|merge request|pull request) ([0-9a-f]{7,40})\b", re.IGNORECASE)
_REVERT_SUBJECT = re.compile(
    r"revert[:\s]+[\"“](?P<subject>.+)[\"”]\.?$|revert:\s*(?P<rest>.+)$", re.IGNORECASE | re.DOTALL
)
_REAPPLY_SUBJECT = re.compile(r"reapply\s+[\"“](?P<subject>.+)[\"”]\.?$", re.IGNORECASE | re.DOTALL)
_DEPENDENCY = re.compile(
    r"(?:bump|upgrade|update|pin|roll)s?\b.{0,80}\b"
    r"(?:from \S+ to \S+|to v?\d+(?:\.\d+)*\S*$|dependenc(?:y|ies)|lock ?file)|"
    r"(?:lock file maintenance|update dependenc(?:y|ies)|pin dependenc(?:y|ies))",
    re.IGNORECASE,
)
_MERGES = (
    re.compile(r"Merge pull request #(?P<number>\d+) from (?P<branch>\S+)"),
    re.compile(r"Merge pull request '(?P<title>.+)' \(#(?P<number>\d+)\) from (?P<branch>\S+) into \S+"),
    re.compile(r"Merge branch '(?P<branch>[^']+)' into '[^']+'"),
    re.compile(r"Merged in (?P<branch>\S+) \(pull request #(?P<number>\d+)\)"),
)


@dataclass(frozen=True)
class Commit:
    """One commit and what its message says.

    Attributes:
        id: Full id.
        parents: Ids of its parents.
        author: Name of its author.
        message: The whole message.
        title: The subject, or the pull request's title where the subject is a merge's.
        type: Type of the conventional commit in lower case, or None.
        scope: Scope of the conventional commit, or an empty text.
        text: The title without type, scope and number of the pull request.
        number: Number of the pull request, or None.
        breaking: What breaks, or None. Empty if the message does not say what.
        reverts: Id or title of the commit that it reverts, or None.
        co_authors: Names of further authors.
    """

    id: str
    parents: tuple[str, ...]
    author: str
    message: str
    title: str
    type: str | None
    scope: str
    text: str
    number: int | None
    breaking: str | None
    reverts: str | None
    co_authors: tuple[str, ...] = field(default=())

    @property
    def subject(self) -> str:
        """First line of the message."""
        return self.message.partition("\n")[0]

    @property
    def is_merge(self) -> bool:
        """Whether the commit has several parents."""
        return len(self.parents) > 1

    @property
    def is_dependency_update(self) -> bool:
        """Whether the commit only changes the version of a dependency."""
        scopes = set(re.split(r"[^\w]+", self.scope.lower()))
        return self.type in {"deps", "dep", "dependencies"} or bool(
            scopes & {"deps", "dep", "dependencies"} or _DEPENDENCY.match(self.text)
        )


def read_commits(git: Git, ids: Sequence[str]) -> list[Commit]:
    """Read commits in the order of their ids."""
    if not ids:
        return []
    listed = git.run(
        "log", "--no-walk=unsorted", "--stdin", "-z", "--encoding=UTF-8", "--format=%H%x1f%P%x1f%an%x1f%B",
        stdin="\n".join(ids).encode(),
    ).stdout.decode(errors="replace")  # fmt: skip
    records = (record.split("\x1f", 3) for record in listed.split("\0") if record)
    return [parse(id_, parents.split(), author, message) for id_, parents, author, message in records]


def parse(id_: str, parents: Sequence[str], author: str, message: str) -> Commit:
    """Make a commit out of its parts.

    Args:
        id_: Full id.
        parents: Ids of its parents.
        author: Name of its author.
        message: The whole message.
    """
    message = message.strip("\n")
    title, number = _title(message)
    reverts = _reverted(title, message)
    type_, scope, exclamation, text = _conventional(title)
    footer = _BREAKING_FOOTER.search(message)
    authors = dict.fromkeys(name for name in _CO_AUTHOR.findall(message) if name != author)
    return Commit(
        id=id_,
        parents=tuple(parents),
        author=author,
        message=message,
        title=title,
        type=type_,
        scope=scope,
        text=text,
        number=number,
        breaking=footer[1].strip() if footer else "" if exclamation else None,
        reverts=reverts,
        co_authors=tuple(authors),
    )


def _title(message: str) -> tuple[str, int | None]:
    """Return the title of a pull request or the subject, and the pull request's number."""
    subject, _, body = message.partition("\n")
    subject = subject.strip()
    for pattern in _MERGES:
        if match := pattern.match(subject):
            parts = match.groupdict()
            title = parts.get("title") or _first_line(body) or ""
            number = parts.get("number")
            stripped, own_number = _without_number(title)
            return stripped, int(number) if number else own_number
    if subject.startswith("Merge ") and not _CONVENTIONAL.match(subject):
        return "", None
    return _without_number(subject)


def _first_line(body: str) -> str | None:
    for line in body.splitlines():
        if line.strip():
            # GitLab puts "See merge request" after the title, and nothing before it when there is no title.
            return None if line.startswith(("See merge request", "Approved-by:", "Reviewed-on:")) else line.strip()
    return None


def _without_number(title: str) -> tuple[str, int | None]:
    number = None
    while match := _PR_SUFFIX.search(title):
        number = int(match[1]) if number is None else number
        title = title[: match.start()]
    return title.strip(), number


def _conventional(title: str) -> tuple[str | None, str, bool, str]:
    """Take type, scope and exclamation mark off a title."""
    for emoji, type_ in TYPE_OF_EMOJI.items():
        if title.startswith(emoji):
            rest = title.removeprefix(emoji).lstrip("\ufe0f: ").strip()
            inner, scope, breaking, text = _conventional(rest)
            return inner or type_, scope, breaking, text
    match = _CONVENTIONAL.match(title)
    if match and match["type"].lower() in KIND_OF_TYPE:
        return match["type"].lower(), match["scope"] or "", bool(match["breaking"]), match["rest"].strip()
    if match and (match["scope"] is None) and match["type"].islower() and " " not in match["type"]:
        # "sidebar: fix overlap": a scope without a type.
        return None, match["type"], bool(match["breaking"]), match["rest"].strip()
    if (match := _BRACKETED.match(title)) and match["type"].lower() in KIND_OF_TYPE:
        return match["type"].lower(), "", False, match["rest"].strip()
    return None, "", False, title


def _reverted(title: str, message: str) -> str | None:
    if match := _REVERTED_ID.search(message):
        return match[1].lower()
    if match := _REVERT_SUBJECT.match(title):
        subject = match["subject"] or match["rest"]
        return _without_number(subject)[0]
    if match := _REAPPLY_SUBJECT.match(title):
        return f'Revert "{match["subject"]}"'
    return None
