"""How a cleaned title reads in a list of release notes: "add X to Y" becomes "X for Y". Used by `wording`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from daemon.upstream.changelog.vocabulary import ALSO_NOUNS, NOW, PAST, Kind

_FIX_PREFIX = re.compile(
    r"(?:(?:an?|the)\s+)?(?:bug|issue|problem|regression|case|error)s?\s+(?:where|in which|whereby)\s+(?:the\s+)?",
    re.IGNORECASE,
)
_AFTER_VERB = re.compile(
    r"(?:an?|the|all|every|each|only|to|in|on|as|by|for|when|no|more|less|correct|right|new|any|it)\b|\w+(?<![su])s\b",
    re.IGNORECASE,
)

_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def phrase(text: str, kind: Kind) -> str:
    """Rewrite a title by the first rule that matches.

    Args:
        text: A cleaned title.
        kind: The group of the change. A feature's verb stays an imperative, which reads well in a list.
    """
    rules = _FEATURE_RULES if kind is Kind.FEATURE else (*_FEATURE_RULES, *_CHANGE_RULES)
    for pattern, rewrite in rules:
        if match := pattern.match(text):
            return rewrite(match).strip()
    return _FIX_PREFIX.sub("", text) if kind is Kind.FIX else text


def _one_of(words: Iterable[str]) -> str:
    return "|".join(sorted((re.escape(word) for word in words), key=len, reverse=True))


def _rule(pattern: str, rewrite: Callable[[re.Match[str]], str]) -> _Rule:
    return re.compile(pattern, re.IGNORECASE), rewrite


_FEATURE_RULES: tuple[_Rule, ...] = (
    _rule(
        r"(?:add|adds|added|introduce[sd]?|provide[sd]?)\s+(?:an?\s+|the\s+)?(?:ability|option|possibility|way)\s+(?:for\s+"
        r"(?:users?|people)\s+)?to\s+(?P<rest>.+)",
        lambda m: f"You can now {_to_you(m['rest'])}",
    ),
    _rule(
        r"(?:allow(?:s|ed|ing)?|let(?:s|ting)?|enabl(?:e|es|ed|ing))\s+(?:users?|people|you|everyone)\s+(?:to\s+)?(?P<rest>.+)",
        lambda m: f"You can now {_to_you(m['rest'])}",
    ),
    _rule(
        r"(?:allow(?:s|ed)?)\s+(?P<what>(?!users)\w+ing)\s+(?P<rest>.+)",
        lambda m: f"{m['what']} {m['rest']} is now possible",
    ),
    _rule(
        r"(?:(?:add|adds|added|implement|introduce)\s+)?support(?:s|ed)?\s+(?:for\s+)?(?P<rest>.+)",
        lambda m: f"Support for {m['rest']}",
    ),
    _rule(
        r"(?:add|adds|added)\s+(?P<what>.+?)\s+to\s+(?P<place>.+)",
        lambda m: f"{_without_article(m['what'])} for {_with_article(m['place'])}",
    ),
    _rule(
        r"(?:add|adds|added|introduce[sd]?|implement(?:s|ed)?|create[sd]?|enabl(?:e|es|ed)|new|initial)\s+(?P<rest>.+)",
        lambda m: _without_article(m["rest"]),
    ),
)

_CHANGE_RULES: tuple[_Rule, ...] = (
    _rule(
        r"(?:fix(?:e[sd])?|resolve[sd]?|correct(?:s|ed)?|repair(?:s|ed)?|address(?:es|ed)?|solve[sd]?)\s*:?\s+(?P<rest>.+)",
        lambda m: _without_article(_FIX_PREFIX.sub("", m["rest"])),
    ),
    _rule(r"(?:stop|avoid)(?:s|ped|ed)?\s+(?P<rest>[a-z]+ing\s.+)", lambda m: f"Stopped {m['rest']}"),
    _rule(r"(?:stop|avoid)(?:s|ped|ed)?\s+(?P<rest>.+)", lambda m: f"No more {_without_article(m['rest'])}"),
    _rule(r"(?:do not|don't|never)\s+(?P<rest>\w+\s.+)", lambda m: f"No longer {_third_person(m['rest'])}"),
    _rule(
        r"make[s]?\s+(?P<what>.+?)\s+"
        r"(?P<how>clickable|sortable|searchable|editable|resizable|collapsible|draggable|"
        r"responsive|faster|easier .+|consistent.*|accessible.*|readable.*|optional|configurable|copyable|sticky|"
        r"scrollable|smaller|larger)$",
        lambda m: f"{_without_article(m['what'])} {_is_or_are(m['what'])} now {m['how']}",
    ),
    _rule(
        rf"(?P<verb>{_one_of(PAST)})\s+(?P<rest>.+)",
        lambda m: f"{PAST[m['verb'].lower()]} {m['rest']}" if _is_verb(m) else m[0],
    ),
    _rule(
        rf"(?P<verb>{_one_of(NOW)})\s+(?P<rest>.+)",
        lambda m: f"Now {NOW[m['verb'].lower()]} {m['rest']}" if _is_verb(m) else m[0],
    ),
)


def _is_verb(match: re.Match[str]) -> bool:
    """Return whether a word that can be a noun, as in "sort order", is a verb: an object or a preposition follows."""
    return match["verb"].lower() not in ALSO_NOUNS or _AFTER_VERB.match(match["rest"]) is not None


def _to_you(text: str) -> str:
    return re.sub(r"\btheir\b", "your", text)


def _without_article(text: str) -> str:
    return re.sub(r"^(?:an?|the|new)\s+", "", text, flags=re.IGNORECASE)


def _with_article(place: str) -> str:
    head = re.split(r"\s+(?:in|on|of|for|with|when|and|at)\s", place)[0]
    has_article = re.match(r"(?:an?|the|all|every|each|any|your|our)\b", place, re.IGNORECASE)
    return place if has_article or re.search(r"[^s]s$", head) else f"the {place}"


def _is_or_are(text: str) -> str:
    return "are" if re.search(r"[^s]s$", text) else "is"


def _third_person(rest: str) -> str:
    """Put the verb that a text begins with into the third person."""
    verb, _, tail = rest.partition(" ")
    if re.search(r"(?:s|sh|ch|x|z|o)$", verb):
        return f"{verb}es {tail}"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies {tail}"
    return f"{verb}s {tail}"
