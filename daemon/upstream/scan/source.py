"""Source text without comments, strings and imports, at unchanged offsets. Used by `scanner` and `usage`.

The patterns are tolerant: broken or unusual source never fails, it only makes a finding more likely.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import PurePosixPath

_SCRIPT_EXTENSIONS = frozenset({".tsx", ".jsx", ".ts", ".js", ".mts", ".cts", ".mjs", ".cjs"})
_COMPONENT_EXTENSIONS = frozenset({".vue", ".svelte"})
_TEMPLATE_EXTENSIONS = frozenset({".html", ".htm", ".jinja", ".jinja2", ".j2"})
EXTENSIONS = _SCRIPT_EXTENSIONS | _COMPONENT_EXTENSIONS | _TEMPLATE_EXTENSIONS

# What is not a comment, in one match: text, strings, and slashes that begin no comment. "//" after a colon belongs to
# a URL in the text of an element. Possessive quantifiers keep the match linear.
_STRING = r"""(?:"(?:\\.|[^"\\\n])*+"|'(?:\\.|[^'\\\n])*+'|`(?:\\.|[^`\\])*+`)"""
_SCRIPT_CODE = re.compile(rf"""(?:[^"'`/]++|{_STRING}|["'`]|(?<=[:\\/])/|/(?![/*]))*+""", re.DOTALL)
_COMPONENT_CODE = re.compile(rf"""(?:[^"'`/<]++|{_STRING}|["'`]|(?<=[:\\/])/|/(?![/*])|<(?!!--))*+""", re.DOTALL)
_SCRIPT_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*|<!--.*?(?:-->|\Z)", re.DOTALL)
_TEMPLATE_COMMENT = re.compile(
    r"<!--.*?(?:-->|\Z)|\{#.*?(?:#\}|\Z)|\{%-?\s*comment\b.*?endcomment\s*-?%\}", re.DOTALL
)
_STRINGS = re.compile(_STRING, re.DOTALL)
_IMPORT = re.compile(
    r"^[ \t]*import\b(?!\s*\()[^;'\"]*?['\"][^'\"\n]*['\"]|^[ \t]*export\b[^;'\"=(]*?\bfrom\s*['\"][^'\"\n]*['\"]",
    re.MULTILINE,
)
_VISIBLE = re.compile(r"[^\n]")


class Language(Enum):
    """How a file is read."""

    SCRIPT = "script"
    COMPONENT = "component"
    TEMPLATE = "template"


def language_of(path: str) -> Language:
    """Return how a file with one of `EXTENSIONS` is read."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _SCRIPT_EXTENSIONS:
        return Language.SCRIPT
    return Language.COMPONENT if suffix in _COMPONENT_EXTENSIONS else Language.TEMPLATE


def without_comments(text: str, language: Language) -> str:
    """Replace comments by spaces. Lines and offsets stay the same."""
    if language is Language.TEMPLATE:
        return _TEMPLATE_COMMENT.sub(_blank, text)
    code_pattern = _SCRIPT_CODE if language is Language.SCRIPT else _COMPONENT_CODE
    parts, position = [], 0
    while position < len(text):
        code = code_pattern.match(text, position)
        end = code.end() if code else position
        parts.append(text[position:end])
        comment = _SCRIPT_COMMENT.match(text, end)
        if comment is None:
            parts.append(text[end : end + 1])
            position = end + 1
        else:
            parts.append(_blank(comment))
            position = comment.end()
    return "".join(parts)


def without_imports(code: str) -> str:
    """Replace import statements and re-exports by spaces."""
    return _IMPORT.sub(_blank, code) if "import" in code or "export" in code else code


def without_strings(code: str) -> str:
    """Replace the contents of strings by spaces, so that brackets and words in them do not count."""
    return _STRINGS.sub(_blank, code)


def _blank(match: re.Match[str]) -> str:
    return _VISIBLE.sub(" ", match[0])
