"""The language of the project: banned phrases in code and templates, line lengths, and module docstrings.

The banned phrases are hard to read, or vague where a plain term exists.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.paths import ROOT

BANNED = (
    "whoever",
    "whatever",
    "nobody",
    "somebody",
    "anew",
    "meanwhile",
    "what had its time",
    "has come to be",
    "of its own",
    "is told",
    "is to be",
    "for good",
    "by itself",
    "look at",
    "looks at",
    "looked at",
    "looking at",
    "in its place",
    "put right",
    "goes back",
    "takes part",
    "take part",
    "at work",
    "as people see it",
)
ALLOWED = {
    ("portal/rules/display_names.py", "somebody"),  # a reserved display name
    ("portal/rules/password_policy.py", "whatever"),  # a common password
}
"""Files, each with a phrase that is legitimate in it."""

PACKAGES = ("portal", "daemon", "demo")
PYTHON_FOLDERS = (*PACKAGES, "tests", "migrations")
TEMPLATE_FOLDERS = ("templates", "demo/templates")
MAX_TEMPLATE_LINE = 118

_PHRASES = re.compile(r"\b(?:" + "|".join(r"\s+".join(phrase.split()) for phrase in BANNED) + r")\b", re.IGNORECASE)

Text = tuple[int, str]
"""The number of the first line of a text, and the text."""


def list_files(folders: tuple[str, ...], pattern: str) -> list[Path]:
    """Return the files of some folders that match a pattern, without this module, which contains the phrases."""
    found = (path for folder in folders for path in (ROOT / folder).rglob(pattern))
    return sorted(path for path in found if path.is_file() and path != Path(__file__))


def read_python_texts(source: str, *, messages: bool) -> Iterator[Text]:
    """Yield the comments, docstrings, and names of functions and classes of a module, with spaces for underscores.

    Consecutive lines of comments are one text, because a phrase may be split between them.

    Args:
        source: the module.
        messages: whether to yield all other strings, too, such as messages.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name.replace("_", " ")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and messages:
            yield node.lineno, node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and not messages:
            yield node.lineno, str(node.value.value)
    comments: list[Text] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], token.string.lstrip("# ")
        if comments and comments[-1][0] + comments[-1][1].count("\n") + 1 == line:
            comments[-1] = (comments[-1][0], f"{comments[-1][1]}\n{text}")
        else:
            comments.append((line, text))
    yield from comments


def may_contain_phrase(source: str) -> bool:
    """Return whether a module contains a banned phrase anywhere, which is quick to find out."""
    return _PHRASES.search(re.sub(r"[\s#_\"']+", " ", source)) is not None


def find_phrases(name: str, texts: Iterator[Text]) -> list[str]:
    """Return the banned phrases in the texts of a file, as `file:line: phrase`."""
    found = []
    for first_line, text in texts:
        for match in _PHRASES.finditer(text):
            phrase = " ".join(match[0].lower().split())
            line = first_line + text.count("\n", 0, match.start())
            if (name, phrase) not in ALLOWED:
                found.append(f"{name}:{line}: {phrase}")
    return found


@pytest.mark.parametrize("folder", PYTHON_FOLDERS)
def test_code_contains_no_banned_phrase(folder: str) -> None:
    files = list_files((folder,), "*.py")
    assert files
    found = [
        finding
        for path in files
        if may_contain_phrase(source := path.read_text())
        for finding in find_phrases(
            str(path.relative_to(ROOT)), read_python_texts(source, messages=folder in PACKAGES)
        )
    ]
    assert found == []


@pytest.mark.parametrize("folder", TEMPLATE_FOLDERS)
def test_templates_contain_no_banned_phrase(folder: str) -> None:
    files = list_files((folder,), "*")
    assert files
    found = [
        finding
        for path in files
        for finding in find_phrases(str(path.relative_to(ROOT)), iter([(1, path.read_text())]))
    ]
    assert found == []


def test_lines_of_templates_are_not_too_long() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)} characters"
        for path in list_files(TEMPLATE_FOLDERS, "*")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > MAX_TEMPLATE_LINE
    ]
    assert found == []


def test_every_module_has_a_docstring() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in list_files(PACKAGES, "*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert found == []


def test_allowed_phrases_are_still_in_use() -> None:
    assert {(name, phrase) for name, phrase in ALLOWED if phrase not in (ROOT / name).read_text()} == set()


@pytest.mark.parametrize(("messages", "in_string"), [(False, []), (True, ["x.py:8: whatever"])])
def test_phrases_are_found_everywhere_and_across_lines(messages: bool, in_string: list[str]) -> None:
    source = '''"""A module that somebody reads.

It has two lines."""

import os  # put
# right

VALUE = "whatever"
"""Described by
itself."""


def test_look_at():
    """Look
    at it."""
'''
    assert sorted(find_phrases("x.py", read_python_texts(source, messages=messages))) == sorted(
        [
            "x.py:1: somebody",
            "x.py:5: put right",
            "x.py:9: by itself",
            "x.py:13: look at",
            "x.py:14: look at",
            *in_string,
        ]
    )


@pytest.mark.parametrize("phrase", BANNED)
def test_quick_search_misses_no_phrase(phrase: str) -> None:
    first, *rest = phrase.split()
    assert may_contain_phrase(f"x = 1  # we {phrase} it\n")
    assert may_contain_phrase(f"x = 1\n# we {first}\n# {' '.join(rest)} it\n")
    assert may_contain_phrase(f"def test_{phrase.replace(' ', '_')}_x(): ...\n")
    assert may_contain_phrase(f"TEXT = 'we {first} '\n    \"{' '.join(rest)} it\"\n")
    assert not may_contain_phrase(f"x = '{phrase.replace(' ', '')}s'\n")
