"""Paths that the gateway forwards to bots, and those that it refuses in every spelling. Used by the gateway.

The provision protocol of a bot is under `/internal` and belongs to the platform. A bot may decode a path several
times, collapse slashes, remove parameters, or ignore case. So a path is checked at every level of decoding, and
spellings that servers interpret differently are refused. A path that passes is forwarded as it was received.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum, auto
from urllib.parse import unquote_to_bytes

GATEWAY_PREFIX = "/_gateway/"
"""Paths of the gateway on the hosts of bots. They are never forwarded."""
ENTER_PATH = f"{GATEWAY_PREFIX}enter"
"""Where a browser brings its ticket."""

_CLOSED_SEGMENT = "INTERNAL"
_MAX_DECODINGS = 5
_VISIBLE_ASCII = re.compile(r"[!-~]+")
_INVALID_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN_PATH = re.compile(r"(?:/[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*)*/?", re.ASCII)
"""Paths that all servers interpret alike: without escapes, parameters, empty segments, and dots at an end."""
_END_OF_SEGMENT_NAME = re.compile(r"[;?#]")


class PathVerdict(Enum):
    """What the gateway does with a path."""

    FORWARD = auto()
    CLOSED = auto()
    """The path leads to `/internal`, at least for some servers."""
    MALFORMED = auto()
    """Servers interpret the path differently, or it is not the path of a request to this host."""


def check_target(target: str) -> PathVerdict:
    """Check the target of a request line.

    Args:
        target: the raw target: path and query.
    """
    path = target.partition("?")[0]
    if not target.startswith("/") or not _VISIBLE_ASCII.fullmatch(target) or "#" in target:
        return PathVerdict.MALFORMED
    if _PLAIN_PATH.fullmatch(path):  # most paths, decided without reading every character
        return PathVerdict.CLOSED if path.split("/")[1].upper() == _CLOSED_SEGMENT else PathVerdict.FORWARD
    return _check_unusual_path(path)


def _check_unusual_path(path: str) -> PathVerdict:
    if _INVALID_ESCAPE.search(path):
        return PathVerdict.MALFORMED
    is_closed = False
    for raw in _list_decodings(path):
        text = _decode_text(raw)
        if text is None or _is_ambiguous(text, path):
            return PathVerdict.MALFORMED
        is_closed = is_closed or _is_closed(text)
    if unquote_to_bytes(raw) != raw:  # still encoded after the last level
        return PathVerdict.MALFORMED
    return PathVerdict.CLOSED if is_closed else PathVerdict.FORWARD


def is_local_path(path: str) -> bool:
    """Return whether a redirect to `path` stays on the host: one slash at the start, and only visible ASCII."""
    return check_target(path) is PathVerdict.FORWARD and not path.startswith("//")


def _list_decodings(path: str) -> list[bytes]:
    """Return the path at every level of decoding, the raw path first."""
    levels = [path.encode()]
    while len(levels) <= _MAX_DECODINGS and (decoded := unquote_to_bytes(levels[-1])) != levels[-1]:
        levels.append(decoded)
    return levels


def _decode_text(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:  # includes overlong forms, such as %C0%AF for a slash
        return None
    return None if any(unicodedata.category(character) == "Cc" for character in text) else text


def _is_ambiguous(text: str, raw_path: str) -> bool:
    """Return whether decoding has produced slashes, or segments `.` and `..` that some servers resolve."""
    compatible = unicodedata.normalize("NFKC", text)
    if "\\" in compatible or compatible.count("/") != raw_path.count("/"):
        return True
    return any(_name_of(segment) in {".", ".."} for segment in compatible.split("/"))


def _is_closed(text: str) -> bool:
    names = [name for segment in text.split("/") if (name := _fold(_name_of(segment)))]
    # Programs that parse the path as a URL take the first name after two slashes for a host.
    return _CLOSED_SEGMENT in (names[:2] if text.startswith("//") else names[:1])


def _name_of(segment: str) -> str:
    """Return a segment without its parameters, which start with a semicolon, and without a decoded query."""
    return _END_OF_SEGMENT_NAME.split(segment, maxsplit=1)[0].strip()


def _fold(name: str) -> str:
    """Return a name without differences that some servers ignore: case, accents, invisible characters, end dots."""
    decomposed = unicodedata.normalize("NFKD", name)
    kept = (letter for letter in decomposed if unicodedata.category(letter) not in {"Mn", "Cf"})
    return "".join(kept).upper().rstrip(". ")
