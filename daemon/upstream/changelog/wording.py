"""Plain words for customers: a commit's title becomes a line of release notes. Used by `release_notes`.

The rules are few and mechanical: the same commits always give the same text. A rewriter can polish the result.
"""

from __future__ import annotations

import re
import unicodedata

from daemon.upstream.changelog.phrasing import phrase
from daemon.upstream.changelog.vocabulary import ACRONYMS, NAMES, NAMES_IN_CAMEL_CASE, VAGUE, Kind

_HANDLE = re.compile(
    r"\s*[(\[]?(?:\b(?:(?:thanks|thx|kudos|credits?)(?:\s+to)?|by|via|cc|h/t|from|and)\s+)*"
    r"(?<![\w.])@(?!mentions?\b|everyone\b)[\w-]+(?:(?:,|\s+and|\s*&)?\s+@[\w-]+)*[)\]]?",
    re.IGNORECASE,
)
_ISSUE = re.compile(
    r"\s*[(\[]?\s*"
    r"(?:\b(?i:fix(?:es|ed)?|clos(?:es?|ed)|resolv(?:es?|ed)|refs?|see|re|part of|related to|for|pr|issue)\s+)?"
    r"(?<!\w)(?:(?:[\w.-]+/[\w.-]+)?[#!]\d+|GH-\d+|[A-Z][A-Z0-9]{1,9}-\d+)"
    r"(?:\s*[,&+]\s*(?:[#!]\d+|[A-Z][A-Z0-9]{1,9}-\d+))*\s*[)\]]?:?",
)
_KEYS_LIKE_ISSUES = ("UTF-", "ISO-", "SHA-", "AES-", "RFC-", "COVID-", "MP-", "H-", "WCAG-")
_URL = re.compile(r"\b(?:https?|ssh|git)://\S+")
_COMMIT_ID = re.compile(r"\s*[(\[]?\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,40}\b[)\]]?")
_FILE_EXTENSIONS = (
    "tsx?|jsx?|mjs|cjs|mts|cts|vue|svelte|html?|css|scss|less|py|rb|go|rs|java|kt|swift|c|h|cpp|sh|sql|md|mdx|json|ya?ml|toml|"
    "lock|ini|cfg|conf|env|txt|xml|prisma|graphql|proto"
)
_FILE = re.compile(
    rf"(?:\s+(?:in|at|from|to|of|for|inside|into|within|under|on|via)(?:\s+the)?)?\s*`?(?<![\w/.])(?:"
    rf"(?:\.{{0,2}}/)?(?:[\w@.-]+/)+[\w@.*-]*\.\w+|"  # a path with an extension
    rf"[\w@.-]*[\w-]\.(?:{_FILE_EXTENSIONS})(?![\w.])|"  # a file name
    rf"\.(?:[a-z]+rc|env(?:\.\w+)?|gitignore|[a-z]+ignore)\b|"  # a dotfile
    rf"(?:\.{{0,2}}/)?(?:[a-z@][\w@.-]*/){{1,}}[\w@.*-]+/[\w@./*-]*"  # a folder
    rf")`?",
)
_CODE = re.compile(r"`([^`]*)`")
_IDENTIFIER = re.compile(
    r"(?<![\w'])(?:[A-Za-z]+_\w+|[a-z]+[A-Z]\w*|[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]*)+|\w+\([^)]*\))(?!\w)"
)
_SYMBOLS = re.compile(r"[<>{}\[\]|\\=^~*_$;]|--+|&&|::|->|=>|\w\.\w+\(|\(\)")
_TRAILING = re.compile(
    r"(?:\s*[-\u2013\u2014:;,.(&/+]|\s+(?:in|at|from|to|of|for|with|by|via|and|or|the|a|an|on|when|where|see|per|as|into|using))+\s*$",
    re.IGNORECASE,
)
_EMPTY_BRACKETS = re.compile(r"\s*[(\[{]\s*[,;&]*\s*[)\]}]")
_ARTICLES = re.compile(r"\b(?:a|an|the)\s+", re.IGNORECASE)
_LEADING_SCOPE = re.compile(r"^[(\[][^)\]]*[)\]]\s*")
_PAIRS = re.compile(
    r"\b(?:and/or|on/off|yes/no|to/from|light/dark|import/export|show/hide|start/stop|enable/disable)\b"
)
_TITLE_CASE_WORDS = 3
_SHORT_WORD = 3
_MINIMUM_WORDS = 2
_MAXIMUM_LENGTH = 140
_LONGEST_TITLE = 500


def plain_item(text: str, kind: Kind) -> str | None:
    """Turn a commit's text into a line of release notes.

    Args:
        text: The title without type and scope.
        kind: The group of the change.

    Returns:
        One line in sentence case without a final full stop, or None if nothing readable is left.
    """
    cleaned = clean(text) if len(text) <= _LONGEST_TITLE else None
    if cleaned is None:
        return None
    sentence = " ".join(_sentence_case(phrase(_lower_title_case(cleaned), kind)).split())
    words = re.findall(r"[^\W\d_]{2,}", sentence)
    is_short = len(words) < _MINIMUM_WORDS and sentence.isascii()
    if is_short or not words or len(sentence) > _MAXIMUM_LENGTH or {word.lower() for word in words} <= VAGUE:
        return None
    return sentence


def clean(text: str) -> str | None:
    """Remove what only developers need: ids, handles, links, file names, code. Returns None if code remains."""
    text = "".join(_readable(character) for character in unicodedata.normalize("NFC", text))
    text = text.partition("\n")[0].rstrip("…")
    text = re.sub(r":[a-z0-9_+]+:", " ", text)
    text = re.sub(r"\bw/o\b", "without", re.sub(r"\bw/(?=\s)", "with", text)).replace(" & ", " and ")
    for pattern in (_URL, _FILE, _HANDLE):
        text = pattern.sub(" ", text)
    text = text.replace("@", "")
    text = _ISSUE.sub(lambda match: match[0] if _is_no_issue(match[0]) else " ", text)
    text = _COMMIT_ID.sub(" ", text)
    text = _CODE.sub(r"\1", text)
    text = _IDENTIFIER.sub(lambda match: _words_of(match[0]), text)
    text = _LEADING_SCOPE.sub("", _EMPTY_BRACKETS.sub("", text).lstrip())
    text = re.sub(r"\s+", " ", text).strip(" -\u2013\u2014:;,.!&+/")
    while _TRAILING.search(text):
        text = _TRAILING.sub("", text)
    if text.count("(") != text.count(")") or text.count('"') % 2:
        text = text.replace("(", "").replace(")", "").replace('"', "")
    return None if not text or _SYMBOLS.search(text) or "/" in _PAIRS.sub("", text) else text.strip()


def without_folders(text: str) -> str:
    """Remove links and the folders of file names. The name of a folder does not tell what a change is about."""
    return re.sub(r"[\w@.-]+/", " ", _URL.sub(" ", text))


def same_item(text: str) -> str:
    """Return a text in a form that is equal for items that say the same."""
    return " ".join(re.findall(r"[^\W_]+", _ARTICLES.sub("", text.casefold())))


def _readable(character: str) -> str:
    """Return a character, or a space for emoji, control characters and halves of surrogate pairs."""
    category = unicodedata.category(character)
    if category == "Cf" or character == "\ufe0f":
        return ""
    if category.startswith("C") or category in {"So", "Sk", "Zl", "Zp"}:
        return "\n" if character == "\n" else " "
    return {"‘": "'", "’": "'", "“": '"', "”": '"'}.get(character, character)  # noqa: RUF001


def _is_no_issue(found: str) -> bool:
    return found.strip(" ([").startswith(_KEYS_LIKE_ISSUES)


def _words_of(identifier: str) -> str:
    """Spell an identifier as words. A call becomes a symbol that makes the item unreadable."""
    if identifier.lower() in NAMES_IN_CAMEL_CASE:
        return NAMES_IN_CAMEL_CASE[identifier.lower()]
    if re.search(r"\d$", identifier) and identifier.isupper():
        return identifier
    if "(" in identifier or re.match(r"use[A-Z]", identifier):
        return "$"
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", identifier.replace("_", " ")).split()
    return " ".join(part if part.isupper() and len(part) > 1 else part.lower() for part in parts)


def _lower_title_case(text: str) -> str:
    """Return a Title Written Like This in lower case, except for names."""
    words = re.findall(r"[^\W\d_]+", text)
    is_title = all(word[:1].isupper() for word in words if len(word) > _SHORT_WORD)
    if not is_title or sum(word[:1].isupper() for word in words) < _TITLE_CASE_WORDS:
        return text
    return re.sub(r"[^\W\d_]+", lambda m: m[0].lower() if m[0].istitle() and m[0] not in NAMES else m[0], text)


def _sentence_case(text: str) -> str:
    text = re.sub(r"(?<![.\w])[a-z0-9]{2,4}\b", lambda m: m[0].upper() if m[0].upper() in ACRONYMS else m[0], text)
    text = re.sub(r"\bids\b", "IDs", text, flags=re.IGNORECASE)
    first = re.match(r"\W*(\w+)", text)
    if first is None or first[1].lower() in NAMES_IN_CAMEL_CASE or re.match(r"[a-z]+[A-Z]", first[1]):
        return text
    at = first.start(1)
    return text[:at] + text[at].upper() + text[at + 1 :]
