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

_STRING = r"""(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)"""
# "//" after a colon belongs to a URL in the text of an element.
_SCRIPT_COMMENT = r"(?P<comment>/\*.*?(?:\*/|\Z)|(?<![:\\/])//[^\n]*)"
_MARKUP_COMMENT = r"(?P<comment><!--.*?(?:-->|\Z)|\{#.*?(?:#\}|\Z)|\{%-?\s*comment\b.*?endcomment\s*-?%\})"
_SCRIPT = re.compile(f"{_STRING}|{_SCRIPT_COMMENT}", re.DOTALL)
_COMPONENT = re.compile(rf"{_STRING}|{_SCRIPT_COMMENT}|(?P<markup><!--.*?(?:-->|\Z))", re.DOTALL)
_TEMPLATE = re.compile(_MARKUP_COMMENT, re.DOTALL)
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
        return _TEMPLATE.sub(_blank, text) if "<!--" in text or "{#" in text or "comment" in text else text
    if "//" not in text and "/*" not in text and "<!--" not in text:
        return text
    pattern = _SCRIPT if language is Language.SCRIPT else _COMPONENT
    return pattern.sub(lambda match: match[0] if match.lastgroup == "string" else _blank(match), text)


def without_imports(code: str) -> str:
    """Replace import statements and re-exports by spaces."""
    return _IMPORT.sub(_blank, code) if "import" in code or "export" in code else code


def without_strings(code: str) -> str:
    """Replace the contents of strings by spaces, so that brackets and words in them do not count."""
    return _SCRIPT.sub(_blank, code)


def _blank(match: re.Match[str]) -> str:
    return _VISIBLE.sub(" ", match[0])
